"""Ask an endpoint the questions of a benchmark, keep every prediction, and score them.

A run is a folder: ``run.json`` (which questions went to which endpoint), ``predictions.jsonl`` (one line per question,
appended as answers come, so that a second call continues where the first one stopped), ``scores.json`` and, for
benchmarks with a server, ``submission.json``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.cli.benchmark.answer_prompts import ChosenPrompt
from services.cli.benchmark.intervals import bootstrap_interval, paired_p_value
from services.cli.benchmark.labelled import OFFICIAL_METRIC, BenchmarkItem
from shared.backoff import Backoff
from shared.client import ChatClient, ChatReply, image_question
from shared.contracts import ChatRequest
from shared.errors import InvalidInput, Unavailable, UpstreamError
from shared.images import ImageLimits, UnreadableImage
from shared.images.wire import prepare_image
from shared.text_files import read_lines
from shared.vqa.answers import match
from shared.vqa.metrics import metric_for
from shared.vqa.reading.replies import Ending, first_reply

WITH_SERVER = ("textvqa", "stvqa", "okvqa")
TRIES = 7
ALIVE_SECONDS = 2.0
BACKOFF = Backoff(0.5, 60.0)
LONE_HALVES = "backslashreplace"
"""UTF-8 has no halves of surrogate pairs, and in a JSON string their escapes are what this makes of them."""


@dataclass(frozen=True)
class Prediction:
    """An answer without reasoning, the checkpoint that gave it, if the endpoint reports it, and whether the token limit
    cut it off.
    """

    text: str
    checkpoint: str | None = None
    cut_off: bool = False


async def answer_all(
    client: ChatClient,
    items: Sequence[BenchmarkItem],
    folder: Path,
    run: dict[str, Any],
    *,
    prompts: Mapping[str, ChosenPrompt],
    limits: ImageLimits,
    concurrency: int,
    advance: Callable[[int], None],
) -> dict[str, Prediction]:
    """Predictions by question id; questions already in ``folder`` are not asked again.

    ``prompts``: by question id. ``advance`` is called with the number of predictions at hand, once at the start and
    after each answer. Raises InvalidInput if ``folder`` holds another run, an image cannot be read, or the endpoint
    changed its checkpoint meanwhile; and the endpoint's error if it lasts longer than a passing fault. Answers so far
    are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _same_run(folder / "run.json", run)
    path = folder / "predictions.jsonl"
    kept = read_predictions(path)
    path.write_text("".join(_line(key, one) for key, one in kept.items()), encoding="utf-8", errors=LONE_HALVES)
    slots = asyncio.Semaphore(concurrency)

    async def ask(item: BenchmarkItem) -> None:
        async with slots:
            url = await asyncio.to_thread(_data_url, item, limits)
            chosen = prompts[item.id]
            text = chosen.of(item.question)
            request = image_question(client.model, url, text, max_tokens=chosen.max_tokens, temperature=0.0)
            reply = await _patiently(client, request, item)
        said = first_reply(reply.response)
        cut_off = said.ending in (Ending.CUT_OFF, Ending.THINKING)
        kept[item.id] = Prediction(said.text.strip(), reply.checkpoint, cut_off)
        with path.open("a", encoding="utf-8", errors=LONE_HALVES) as file:
            file.write(_line(item.id, kept[item.id]))
        advance(len(kept))

    advance(len(kept))
    try:
        async with asyncio.TaskGroup() as group:
            for item in items:
                if item.id not in kept:
                    group.create_task(ask(item))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    versions = sorted({one.checkpoint for one in kept.values() if one.checkpoint})
    if len(versions) > 1:
        raise InvalidInput(
            f"The endpoint changed its checkpoint during the run ({', '.join(versions)}), so the answers come from "
            "several versions: ask for one by name (--model student@<version>) with another --output."
        )
    return {item.id: kept[item.id] for item in items}


async def check_endpoint(client: ChatClient) -> None:
    """Raises Unavailable within ALIVE_SECONDS if nothing answers there, UpstreamError if it refuses the key.

    Any answer is one: not every server has this route, and a busy one is asked again with the first question.
    """
    try:
        async with asyncio.timeout(ALIVE_SECONDS):
            await client.models()
    except TimeoutError as error:
        raise Unavailable(f"{client.base_url} did not answer within {ALIVE_SECONDS:.0f} s.") from error
    except Unavailable as error:
        if error.upstream_status is None:
            raise
    except UpstreamError as error:
        if error.upstream_status in (401, 403):
            raise


async def _patiently(client: ChatClient, request: ChatRequest, item: BenchmarkItem) -> ChatReply:
    """Ask again while the endpoint is busy or restarting, for about a minute or as long as it says."""
    for attempt in range(TRIES):
        try:
            return await client.chat(request)
        except (Unavailable, UpstreamError) as error:
            passing = isinstance(error, Unavailable) or (error.upstream_status or 0) >= 500
            if attempt == TRIES - 1 or not passing:
                error.detail = f"Question {item.id} about {item.image}: {error.detail}"
                raise
            await asyncio.sleep(min(BACKOFF.longest, error.retry_after or BACKOFF.delay(attempt + 1)))
    raise AssertionError("unreachable")


def read_predictions(path: Path) -> dict[str, Prediction]:
    """Predictions by question id. A line that a kill cut off is left out, so that its question is asked again."""
    found: dict[str, Prediction] = {}
    for line in read_lines(path) if path.exists() else ():
        try:
            record: Any = line.json()
            found[record["id"]] = Prediction(
                record["prediction"], record.get("checkpoint"), bool(record.get("cut_off"))
            )
        except (ValueError, KeyError, TypeError):
            continue
    return found


def score(name: str, items: Sequence[BenchmarkItem], predictions: dict[str, str]) -> dict[str, Any]:
    """Official metric with its interval, the paper's containment accuracy, both overall, by task and by type."""
    metric = metric_for(OFFICIAL_METRIC[name])
    official = {i.id: metric(predictions[i.id], list(i.answers)) for i in items}
    paper = {i.id: _contained(predictions[i.id], i.answers) for i in items}
    return {
        "benchmark": name,
        "metric": OFFICIAL_METRIC[name],
        "overall": _summary([i.id for i in items], official, paper),
        "tasks": {task: _summary(ids, official, paper) for task, ids in _grouped(items, lambda item: item.task)},
        "types": {kind: _summary(ids, official, paper) for kind, ids in _grouped(items, lambda item: item.type)},
        "by_question": official,
    }


def compare(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Difference of two scored runs, its p-value, and what else differs between the runs.

    Raises InvalidInput unless both asked the same questions.
    """
    before, after = first["by_question"], second["by_question"]
    if first["benchmark"] != second["benchmark"] or set(before) != set(after):
        raise InvalidInput("The two runs did not ask the same questions: evaluate both on the same files.")
    pairs = [(before[key], after[key]) for key in before]
    p = paired_p_value([a for a, _ in pairs], [b for _, b in pairs])
    return {
        "difference": sum(b - a for a, b in pairs) / len(pairs),
        "p_value": p,
        "questions": len(pairs),
        "runs": {name: _named(run) for name, run in (("first", first), ("second", second))},
        "notes": [note for note in (_other_prompts(first, second), _other_files(first, second)) if note],
    }


def _named(run: dict[str, Any]) -> dict[str, Any]:
    known = {name: run.get(name) for name in ("of", "model", "checkpoint")}
    return {**known, "official": run["overall"]["official"]}


def _other_prompts(first: dict[str, Any], second: dict[str, Any]) -> str:
    asked = [
        sorted({(one["prompt"], one["max_tokens"]) for one in run.get("prompts", {}).values()})
        for run in (first, second)
    ]
    if asked[0] == asked[1]:
        return ""
    return (
        "the two runs asked with different prompts or token limits, so the difference is not that of the models alone: "
        f"{asked[0]} and {asked[1]}."
    )


def _other_files(first: dict[str, Any], second: dict[str, Any]) -> str:
    if first.get("annotations") == second.get("annotations"):
        return ""
    return "the annotation files of the two runs differ: the same question ids may stand for other questions."


def submission(predictions: dict[str, str], items: Sequence[BenchmarkItem]) -> list[dict[str, Any]]:
    """What the benchmark's server accepts: a list of ``{"question_id", "answer"}``."""
    return [{"question_id": int(i.id) if i.id.isdigit() else i.id, "answer": predictions[i.id]} for i in items]


def _grouped(items: Sequence[BenchmarkItem], key: Callable[[BenchmarkItem], str]) -> Iterator[tuple[str, list[str]]]:
    for name in sorted({key(item) for item in items if key(item)}):
        yield name, [item.id for item in items if key(item) == name]


def _summary(ids: list[str], official: dict[str, float], paper: dict[str, float]) -> dict[str, Any]:
    scores = [official[key] for key in ids]
    return {
        "questions": len(ids),
        "official": sum(scores) / len(ids),
        "interval95": bootstrap_interval(scores),
        "containment": sum(paper[key] for key in ids) / len(ids),
    }


def _contained(prediction: str, answers: Sequence[str]) -> float:
    return float(any(match(prediction, answer, mode="paper") for answer in answers))


def _same_run(path: Path, run: dict[str, Any]) -> None:
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != run:
        raise InvalidInput(f"{path.parent} holds another run (see {path.name}): choose another --output.")
    path.write_text(json.dumps(run, indent=1), encoding="utf-8")


def _line(key: str, prediction: Prediction) -> str:
    record: dict[str, Any] = {"id": key, "prediction": prediction.text, "checkpoint": prediction.checkpoint}
    if prediction.cut_off:
        record["cut_off"] = True
    return json.dumps(record, ensure_ascii=False) + "\n"


def _data_url(item: BenchmarkItem, limits: ImageLimits) -> str:
    """As the mining sends images, so that every server sees what the student was aligned on."""
    try:
        return prepare_image(item.image.read_bytes(), limits).url
    except (UnreadableImage, InvalidInput) as error:
        raise InvalidInput(
            f"Question {item.id}: {item.image} cannot be read. {error.detail} Replace the file, then run the command "
            "again: it keeps the other answers."
        ) from error
