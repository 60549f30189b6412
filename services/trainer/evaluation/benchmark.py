"""A job's labelled benchmark: JSONL with ``{"image", "task", "question", "answers": […], "type"?}`` in each line.

Read by the evaluation only.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from shared.errors import InvalidInput
from shared.images.web import WEB_SCHEMES
from shared.vqa.labelled import Record, answers_of, read_lines, text_of


@dataclass(frozen=True)
class Labelled:
    """One benchmark question; ``image`` is an absolute path or URL, ``kind`` its question type, "" if not given."""

    image: str
    task: str
    question: str
    answers: tuple[str, ...]
    kind: str = ""


def read_benchmark(path: Path, tasks: Collection[str]) -> list[Labelled]:
    """All lines of ``path``; images are relative to it. Raises InvalidInput naming the first bad line and its field."""
    labelled = [_labelled(path, where, record, tasks) for _, where, record in read_lines(path)]
    if not labelled:
        raise InvalidInput(
            f"The benchmark {path} has no lines: give one JSON object a line, or leave it out of the job."
        )
    return labelled


def _labelled(path: Path, where: str, record: Record, tasks: Collection[str]) -> Labelled:
    image, task, question = (text_of(record, key, where) for key in ("image", "task", "question"))
    answers = answers_of(record, where)
    if not answers:
        raise InvalidInput(f"{where}: 'answers' is missing or empty: give at least one answer.")
    if task not in tasks:
        raise InvalidInput(f"{where}: unknown task {task!r} (known: {', '.join(sorted(tasks))}).")
    return Labelled(_image(path, where, image), task, question, answers, str(record.get("type", "")))


def _image(path: Path, where: str, image: str) -> str:
    if image.startswith(WEB_SCHEMES) or "://" in image:
        return image
    found = path.parent.absolute() / image
    if not found.is_file():
        raise InvalidInput(f"{where}: the image {found} does not exist.")
    return str(found)
