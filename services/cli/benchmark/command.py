"""`mpa evaluate` and `mpa compare`: run a labelled benchmark on any OpenAI-compatible endpoint."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.benchmark.labelled import load_benchmark
from services.cli.benchmark.runner import LONE_HALVES, WITH_SERVER, answer_all, compare, score, submission
from services.cli.benchmark.serving import served
from services.cli.session import Exit, fail, need, run
from shared.client import ChatClient
from shared.errors import InvalidInput
from shared.settings import ClientSettings
from shared.vqa.builtin import BUILT_IN

PROMPT = "{question}\nAnswer with a single word or phrase."


def evaluate(
    benchmark: Annotated[str, typer.Argument(help="textvqa, stvqa, chartqa, okvqa or jsonl.")],
    annotations: Annotated[list[Path], typer.Option(help="Annotation file; may be repeated.")],
    images: Annotated[Path, typer.Option(help="Folder of the images.")],
    output: Annotated[Path, typer.Option(help="Folder of the run, which continues where it stopped.")],
    endpoint: Annotated[str | None, typer.Option(help="Base URL; the student by default.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint folder to serve and evaluate instead.")] = None,
    model: Annotated[str, typer.Option(help="Model name at the endpoint.")] = "student",
    split: Annotated[str | None, typer.Option(help="Refuse annotation files of any other split.")] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Prompt with {question}; that of the benchmark's task profile by default.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 24,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at the same time.")] = 8,
    predict_only: Annotated[
        bool, typer.Option("--predict-only", help="Do not score: for splits without answers.")
    ] = False,
) -> None:
    """Ask an endpoint or a checkpoint the questions of a benchmark, save its answers and score them.

    A checkpoint is served for the run. The endpoint's key is read from MPA_EVALUATE_API_KEY.
    """
    if not predict_only:
        need("evaluate", "numpy")
    if checkpoint is not None:
        need("student", "fastapi", "torch", "transformers")
    asked_with = prompt or _prompt_of(benchmark)
    if checkpoint is not None and endpoint is not None:
        fail("give --endpoint or --checkpoint, not both.", Exit.BAD_INPUT)
    if "{question}" not in asked_with:
        fail("--prompt must contain {question}, which is where the question goes.", Exit.BAD_INPUT)

    async def measure(settings: ClientSettings) -> dict[str, Any] | None:
        items = load_benchmark(benchmark, annotations, images, split=split, needs_answers=not predict_only)
        own = settings.api_key.get_secret_value() if settings.api_key and not endpoint else None
        key = os.environ.get("MPA_EVALUATE_API_KEY") or own  # our own key is never sent to someone else's endpoint
        asked = {
            "benchmark": benchmark,
            "annotations": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in annotations},
            "of": str(checkpoint.resolve()) if checkpoint else endpoint or settings.student_url,
            "model": model,
            "prompt": asked_with,
            "max_tokens": max_tokens,
        }
        async with AsyncExitStack() as stack:
            url = await stack.enter_async_context(served(checkpoint)) if checkpoint else None
            client = ChatClient(url or endpoint or settings.student_url, model=model, api_key=key)
            await stack.enter_async_context(client)
            predictions = await answer_all(
                client, items, output, asked, prompt=asked_with, max_tokens=max_tokens, concurrency=concurrency
            )
        if benchmark in WITH_SERVER:
            _write(output / "submission.json", submission(predictions, items))
        if predict_only:
            return None
        scores = score(benchmark, items, predictions)
        _write(output / "scores.json", scores)
        return scores

    async def call(settings: ClientSettings) -> dict[str, Any] | InvalidInput | None:
        try:
            return await measure(settings)
        except InvalidInput as error:
            return error

    scores = run(call)
    if isinstance(scores, InvalidInput):
        fail(scores.detail, Exit.BAD_INPUT)
    if scores:
        typer.echo(json.dumps({key: scores[key] for key in ("benchmark", "metric", "overall", "types")}, indent=1))


def compare_runs(
    first: Annotated[Path, typer.Argument(help="Folder of the earlier run.")],
    second: Annotated[Path, typer.Argument(help="Folder of the later run.")],
) -> None:
    """Test whether two runs over the same questions differ (paired permutation test)."""
    need("evaluate", "numpy")
    try:
        read = [json.loads((folder / "scores.json").read_text(encoding="utf-8")) for folder in (first, second)]
        typer.echo(json.dumps(compare(read[0], read[1])))
    except (OSError, ValueError) as error:
        fail(f"the scores cannot be read: {error}. Run `mpa evaluate` first.", Exit.BAD_INPUT)
    except InvalidInput as error:
        fail(error.detail, Exit.BAD_INPUT)


def _prompt_of(benchmark: str) -> str:
    """The prompt that jobs use for the same task, so that a benchmark asks as in production."""
    return next((profile.prompts.answer for profile in BUILT_IN if profile.name == benchmark), PROMPT)


def _write(path: Path, body: object) -> None:
    path.write_text(json.dumps(body, indent=1, ensure_ascii=False), encoding="utf-8", errors=LONE_HALVES)
