"""Labelled benchmarks as JSONL: one ``{"image", "task", "question", "answers": […], "type"?}`` a line. Read by
evaluation only.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.errors import InvalidInput
from shared.images.web import WEB_SCHEMES


@dataclass(frozen=True)
class Labelled:
    """One benchmark question; ``image`` is an absolute path or URL, ``kind`` its question type, if told."""

    image: str
    task: str
    question: str
    answers: tuple[str, ...]
    kind: str = ""


def read_benchmark(path: Path, tasks: Collection[str]) -> list[Labelled]:
    """All lines of ``path``; images are relative to it. Raises InvalidInput naming the first bad line and its field."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"The benchmark {path} cannot be read ({error}): name a JSONL file in UTF-8.") from error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise InvalidInput(
            f"The benchmark {path} has no lines: give one JSON object a line, or leave it out of the job."
        )
    return [_labelled(path, number, line, tasks) for number, line in lines]


def _labelled(path: Path, number: int, line: str, tasks: Collection[str]) -> Labelled:
    where = f"Line {number} of the benchmark {path}"
    try:
        entry: Any = json.loads(line)
    except ValueError as error:
        raise InvalidInput(f"{where} is not JSON ({error}).") from error
    if not isinstance(entry, dict):
        raise InvalidInput(f"{where} is not a JSON object.")
    for name in ("image", "task", "question"):
        if not isinstance(entry.get(name), str) or not entry[name]:
            raise InvalidInput(f"{where} has no text in field {name!r}.")
    answers = entry.get("answers")
    if not isinstance(answers, list) or not answers or not all(isinstance(answer, str) for answer in answers):
        raise InvalidInput(f"{where} has no list of texts in field 'answers'.")
    if entry["task"] not in tasks:
        raise InvalidInput(f"{where} names the unknown task {entry['task']!r} (known: {', '.join(sorted(tasks))}).")
    return Labelled(
        _image(path, where, entry["image"]),
        entry["task"],
        entry["question"],
        tuple(answers),
        str(entry.get("type", "")),
    )


def _image(path: Path, where: str, image: str) -> str:
    if image.startswith(WEB_SCHEMES) or "://" in image:
        return image
    found = path.parent.absolute() / image
    if not found.is_file():
        raise InvalidInput(f"{where} names the image {found}, which does not exist.")
    return str(found)
