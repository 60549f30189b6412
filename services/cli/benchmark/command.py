"""`mpa evaluate` and `mpa compare`: run a labelled benchmark on any OpenAI-compatible endpoint."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.benchmark.answer_prompts import (
    built_in_prompts,
    card_prompts,
    choose_prompts,
    describe_prompts,
    file_prompts,
    given_prompt,
    profile_prompts,
    served_prompts,
)
from services.cli.benchmark.labelled import load_benchmark
from services.cli.benchmark.render import comparison_table, scores_table, shown_progress
from services.cli.benchmark.runner import (
    LONE_HALVES,
    WITH_SERVER,
    answer_all,
    check_endpoint,
    compare,
    score,
    submission,
)
from services.cli.benchmark.serving import served
from services.cli.session import Exit, Json, fail, need, out, run, show_json
from shared.client import ChatClient
from shared.errors import InvalidInput
from shared.images import ImageLimits
from shared.settings import ClientSettings

ENDPOINT_AWAY = "Is the endpoint running? Check --endpoint (by default MPA_STUDENT_URL)."


def evaluate(
    benchmark: Annotated[str, typer.Argument(help="textvqa, stvqa, chartqa, okvqa or jsonl.")],
    annotations: Annotated[list[Path], typer.Option(help="Annotation file; may be repeated.")],
    output: Annotated[Path, typer.Option(help="Folder of the run, which continues where it stopped.")],
    images: Annotated[Path, typer.Option(help="Folder of the images that are named by file.")] = Path(),
    endpoint: Annotated[str | None, typer.Option(help="Base URL; the student by default.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint folder to serve and evaluate instead.")] = None,
    model: Annotated[str, typer.Option(help="Model name at the endpoint.")] = "student",
    split: Annotated[str | None, typer.Option(help="Refuse annotation files of any other split.")] = None,
    task: Annotated[
        str | None, typer.Option(help="Task profile that says how to ask; that of the row or the benchmark by default.")
    ] = None,
    tasks_file: Annotated[Path | None, typer.Option(help="YAML file of task profiles, as in MPA_TASKS_FILE.")] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Prompt with {question}; by default the one that the model was aligned with.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest answer, in tokens; that of the task profile by default.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at the same time.")] = 8,
    predict_only: Annotated[
        bool, typer.Option("--predict-only", help="Do not score: for splits without answers.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Ask an endpoint or a checkpoint the questions of a benchmark, save its answers and score them.

    A checkpoint is served for the run. The endpoint's key is read from MPA_EVALUATE_API_KEY.
    """
    if not predict_only:
        need("evaluate", "numpy")
    if any(path.suffix == ".parquet" for path in annotations):
        need("evaluate", "pyarrow")
    if checkpoint is not None:
        need("student", "fastapi", "torch", "transformers")
    need("evaluate", "PIL", "pi_heif")
    if checkpoint is not None and endpoint is not None:
        fail("give --endpoint or --checkpoint, not both.", Exit.BAD_INPUT)

    async def measure(settings: ClientSettings) -> dict[str, Any] | None:
        own = settings.api_key.get_secret_value() if settings.api_key and not endpoint else None
        key = os.environ.get("MPA_EVALUATE_API_KEY") or own  # our own key is never sent to someone else's endpoint
        url = endpoint or settings.student_url
        asked = given_prompt(prompt, max_tokens) if prompt is not None else None
        async with AsyncExitStack() as stack:
            if checkpoint is None:
                client = await stack.enter_async_context(ChatClient(url, model=model, api_key=key))
                await check_endpoint(client)
            items = load_benchmark(benchmark, annotations, images, split=split, needs_answers=not predict_only)
            if asked is not None:
                chosen = {item.id: asked for item in items}
            else:
                sources = [file_prompts(tasks_file)] if tasks_file else []
                sources.append(card_prompts(checkpoint) if checkpoint else await served_prompts(url, key, model))
                sources += [await profile_prompts(settings), built_in_prompts()]
                chosen = choose_prompts(benchmark, items, sources, task=task, max_tokens=max_tokens)
            run_record = {
                "benchmark": benchmark,
                "annotations": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in annotations},
                "of": str(checkpoint.resolve()) if checkpoint else url,
                "model": model,
                "prompts": describe_prompts(items, chosen),
            }
            if checkpoint is not None:
                served_at = await stack.enter_async_context(served(checkpoint))
                client = await stack.enter_async_context(ChatClient(served_at, model=model, api_key=key))
            with shown_progress(len(items)) as advance:
                found = await answer_all(
                    client,
                    items,
                    output,
                    run_record,
                    prompts=chosen,
                    limits=ImageLimits.from_settings(settings),
                    concurrency=concurrency,
                    advance=advance,
                )
        texts = {key: one.text for key, one in found.items()}
        if benchmark in WITH_SERVER:
            _write(output / "submission.json", submission(texts, items))
        if predict_only:
            return None
        scores = {
            **score(benchmark, items, texts),
            **{name: run_record[name] for name in ("of", "model", "prompts", "annotations")},
            "checkpoint": next((one.checkpoint for one in found.values()), None),
            "cut_off": sum(one.cut_off for one in found.values()),
            "empty": sum(not one.text for one in found.values()),
        }
        _write(output / "scores.json", scores)
        return scores

    async def call(settings: ClientSettings) -> dict[str, Any] | InvalidInput | None:
        try:
            return await measure(settings)
        except InvalidInput as error:
            return error

    scores = run(call, hint=ENDPOINT_AWAY)
    if isinstance(scores, InvalidInput):
        fail(scores.detail, Exit.BAD_INPUT)
    if scores and as_json:
        show_json({key: value for key, value in scores.items() if key != "by_question"})
    elif scores:
        out.print(scores_table(scores))
    elif not as_json:
        out.print(f"The answers are in {output / 'predictions.jsonl'}.", soft_wrap=True)


def compare_runs(
    first: Annotated[Path, typer.Argument(help="Folder of the earlier run.")],
    second: Annotated[Path, typer.Argument(help="Folder of the later run.")],
    as_json: Json = False,
) -> None:
    """Test whether two runs over the same questions differ (paired permutation test)."""
    need("evaluate", "numpy")
    try:
        read = [json.loads((folder / "scores.json").read_text(encoding="utf-8")) for folder in (first, second)]
        found = compare(read[0], read[1])
    except (OSError, ValueError, KeyError) as error:
        fail(f"the scores cannot be read: {error!r}. Run `mpa evaluate` first.", Exit.BAD_INPUT)
    except InvalidInput as error:
        fail(error.detail, Exit.BAD_INPUT)
    if as_json:
        show_json(found)
    else:
        out.print(comparison_table(found))


def _write(path: Path, body: object) -> None:
    path.write_text(json.dumps(body, indent=1, ensure_ascii=False), encoding="utf-8", errors=LONE_HALVES)
