"""Labelled benchmarks as JSON or JSONL. Labels are read for evaluation only: nothing else may import this module.

``where`` names the place in a file, for errors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shared.errors import InvalidInput

Record = dict[str, Any]


def read_lines(path: Path) -> Iterator[tuple[int, str, Record]]:
    """Number, ``where`` and object of each non-empty line of a JSONL file. Raises InvalidInput."""
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip():
            where = f"{path}, line {number}"
            yield number, where, as_object(parse(line, where), where)


def read_json(path: Path) -> object:
    """Raises InvalidInput for a file that cannot be read or is not JSON."""
    return parse(read_text(path), str(path))


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read ({error}): give a file in UTF-8.") from error


def parse(text: str, where: str) -> object:
    try:
        value: object = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"{where}: not JSON: {error}.") from error
    return value


def as_object(value: object, where: str) -> Record:
    if not isinstance(value, dict):
        raise InvalidInput(f"{where}: an object was expected.")
    return value


def text_of(record: Record, key: str, where: str) -> str:
    """A text, or a number as text. Raises InvalidInput if it is missing or empty."""
    value = record.get(key)
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise InvalidInput(f"{where}: '{key}' is missing or not a text.")
    return str(value)


def answers_of(record: Record, where: str) -> tuple[str, ...]:
    """The reference answers; empty if the labels are not public. Raises InvalidInput if they are not texts."""
    answers = record.get("answers", [])
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        raise InvalidInput(f"{where}: 'answers' must be a list of texts.")
    return tuple(answers)
