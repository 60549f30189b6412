"""Labelled benchmarks as JSON or JSONL. Labels are read for evaluation only: nothing else may import this module.

``where`` names the place in a file, for errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shared import text_files
from shared.errors import InvalidInput
from shared.text_files import parse_json, whole_text

Record = dict[str, Any]


def read_lines(path: Path) -> Iterator[tuple[int, str, Record]]:
    """Number, ``where`` and object of each non-empty line of a JSONL file. Raises InvalidInput."""
    try:
        for line in text_files.read_lines(path):
            where = f"{path}, line {line.number}"
            yield line.number, where, as_object(parse(line.text, where), where)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def read_json(path: Path) -> object:
    """Raises InvalidInput for a file that cannot be read or is not JSON."""
    try:
        text = text_files.read_text(path)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    return parse(text, str(path))


def parse(text: str, where: str) -> object:
    try:
        return parse_json(text)
    except ValueError as error:
        raise InvalidInput(f"{where}: not JSON: {error}.") from error


def as_object(value: object, where: str) -> Record:
    if not isinstance(value, dict):
        raise InvalidInput(f"{where}: an object was expected.")
    return value


def text_of(record: Record, key: str, where: str) -> str:
    """A text, or a number as text. Raises InvalidInput if it is missing or empty."""
    value = record.get(key)
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise InvalidInput(f"{where}: '{key}' is missing or not a text.")
    return whole_text(str(value))


def answers_of(record: Record, where: str) -> tuple[str, ...]:
    """The reference answers; empty if the labels are not public. Raises InvalidInput if they are not texts."""
    answers = record.get("answers", [])
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        raise InvalidInput(f"{where}: 'answers' must be a list of texts.")
    return tuple(whole_text(answer) for answer in answers)


def _unreadable(path: Path, error: Exception) -> InvalidInput:
    return InvalidInput(f"{path} cannot be read ({error}): give a file in UTF-8.")
