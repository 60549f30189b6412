"""`mpa evaluate` and `mpa compare`: a labelled benchmark against any OpenAI-compatible endpoint."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.evaluation import WITH_SERVER, answer_all, compare, score, submission
from services.cli.session import Exit, fail, run
from shared.client import ChatClient
from shared.errors import InvalidInput
from shared.settings import ClientSettings
from shared.vqa.benchmarks import load_benchmark

PROMPT = "{question}\nAnswer with a single word or phrase."


def evaluate(
    benchmark: Annotated[str, typer.Argument(help="textvqa, stvqa, chartqa, okvqa or jsonl.")],
    annotations: Annotated[list[Path], typer.Option(help="Annotation file; may be repeated.")],
    images: Annotated[Path, typer.Option(help="Folder of the images.")],
    output: Annotated[Path, typer.Option(help="Folder of the run; the same folder goes on where it ended.")],
    endpoint: Annotated[str | None, typer.Option(help="Base URL; the student if not given.")] = None,
    model: Annotated[str, typer.Option(help="Model name at the endpoint.")] = "student",
    split: Annotated[str | None, typer.Option(help="Refuse files of another split.")] = None,
    prompt: Annotated[str, typer.Option(help="What is asked; {question} is filled in.")] = PROMPT,
    max_tokens: Annotated[int, typer.Option(min=1)] = 24,
    concurrency: Annotated[int, typer.Option(min=1)] = 8,
    predict_only: Annotated[bool, typer.Option("--predict-only", help="For splits without answers.")] = False,
) -> None:
    """Ask an endpoint a benchmark, save its predictions and score them. The key is read from MPA_EVALUATE_API_KEY."""

    async def measure(settings: ClientSettings) -> dict[str, Any] | None:
        items = load_benchmark(benchmark, annotations, images, split=split, needs_answers=not predict_only)
        url = endpoint or settings.student_url
        own = settings.api_key.get_secret_value() if settings.api_key and not endpoint else None
        key = os.environ.get("MPA_EVALUATE_API_KEY") or own  # our own key never goes to a foreign endpoint
        asked = {
            "benchmark": benchmark,
            "annotations": [str(path.resolve()) for path in annotations],
            "endpoint": url,
            "model": model,
            "prompt": prompt,
            "max_tokens": max_tokens,
        }
        client = ChatClient(url, model=model, api_key=key)
        async with client:
            predictions = await answer_all(
                client, items, output, asked, prompt=prompt, max_tokens=max_tokens, concurrency=concurrency
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
    first: Annotated[Path, typer.Argument(help="Folder of the run before.")],
    second: Annotated[Path, typer.Argument(help="Folder of the run after.")],
) -> None:
    """Whether two runs over the same questions differ (paired permutation test)."""
    try:
        read = [json.loads((folder / "scores.json").read_text(encoding="utf-8")) for folder in (first, second)]
        typer.echo(json.dumps(compare(read[0], read[1])))
    except (OSError, ValueError) as error:
        fail(f"no scores can be read: {error}. Run `mpa evaluate` first.", Exit.BAD_INPUT)
    except InvalidInput as error:
        fail(error.detail, Exit.BAD_INPUT)


def _write(path: Path, body: object) -> None:
    path.write_text(json.dumps(body, indent=1, ensure_ascii=False), encoding="utf-8")
