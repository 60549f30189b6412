"""Images inside JSONL files: base64 text where a table in Hugging Face's layout has bytes.

A line holds ``{"image": {"bytes": "<base64>", "path": …}}``, a data URL, or bare base64; or a list of these. An image
is named as in other tables, by its line, from 0. The files are UTF-8.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from typing import Any, BinaryIO

from shared.errors import InvalidInput
from shared.images.decode import from_data_url
from shared.images.web import WEB_SCHEMES
from shared.text_files import LONGEST_LINE, parse_json

JSON_SUFFIXES = (".jsonl", ".ndjson")
NAMES = ("image", "images", "img", "picture", "photo", "jpg", "jpeg", "png", "webp")
"""Usual names of a column of images, in this order."""
_CHUNK = 1 << 20
_LONGEST_PATH = 4096
_LINE_END = re.compile(rb"\r\n?|\n")


def image_cell(record: object) -> Any:
    """What a line says of its image, if the image itself is in it; else None."""
    if not isinstance(record, dict):
        return None
    return next((record[name] for name in NAMES if _is_inside(record.get(name))), None)


def cell_bytes(cell: Any) -> Any:
    """``cell`` with bytes in place of text, as other tables give it. Raises InvalidInput for what is not base64."""
    if isinstance(cell, list):
        return [cell_bytes(one) for one in cell]
    if isinstance(cell, dict):
        return {**cell, "bytes": _decoded(cell.get("bytes"))}
    return {"bytes": _decoded(cell), "path": None} if _is_inside(cell) else {"bytes": None, "path": cell}


def line_starts(file: BinaryIO) -> array[int]:
    """Where each line starts in ``file``, and where the last one ends."""
    starts, at, left = array("Q", [0]), 0, b""
    while chunk := file.read(_CHUNK):
        data = left + chunk
        # A CR at the end may belong to an LF that follows.
        left = b"\r" if data.endswith(b"\r") else b""
        whole = data[: len(data) - len(left)]
        starts.extend(at + end.end() for end in _LINE_END.finditer(whole))
        at += len(whole)
    if left:
        starts.append(at + 1)
    size = at + len(left)
    if starts[-1] != size:
        starts.append(size)
    return starts


def read_records(file: BinaryIO, starts: array[int], first: int, count: int) -> list[Any]:
    """The objects on the lines from ``first`` on; None for a blank line, the error for one that cannot be read."""
    return [_record(file, starts, row) for row in range(first, min(first + count, len(starts) - 1))]


def json_references(name: str, file: BinaryIO) -> Iterator[str] | None:
    """The images of a JSONL file in order; None if its first line with text holds none."""
    starts = line_starts(file)
    rows = range(len(starts) - 1)
    first = next((record for row in rows if (record := _record(file, starts, row)) is not None), None)
    return _references(name, file, starts) if image_cell(first) is not None else None


def _references(name: str, file: BinaryIO, starts: array[int]) -> Iterator[str]:
    for row in range(len(starts) - 1):
        record = _record(file, starts, row)
        if record is not None:
            yield from names_of(name, row, image_cell(record))


def names_of(name: str, row: int, cell: Any) -> list[str]:
    """The names of the images of a line."""
    return [f"{name}#{row}.{item}" for item in range(len(cell))] if isinstance(cell, list) else [f"{name}#{row}"]


def _record(file: BinaryIO, starts: array[int], row: int) -> Any:
    if starts[row + 1] - starts[row] > 4 * LONGEST_LINE:
        return ValueError(f"the line is longer than {LONGEST_LINE} characters")
    file.seek(starts[row])
    try:
        text = file.read(starts[row + 1] - starts[row]).decode("utf-8-sig")
        return parse_json(text) if text.strip() else None
    except ValueError as error:
        return error


def _is_inside(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_is_inside, value))
    if isinstance(value, dict):
        return bool(value.get("bytes"))
    # No path is as long as an image.
    return isinstance(value, str) and (
        value[:5].lower() == "data:" or (len(value) > _LONGEST_PATH and not value.startswith(WEB_SCHEMES))
    )


def _decoded(value: Any) -> bytes | None:
    if value is None:
        return None
    if isinstance(value, list):  # as some libraries write bytes
        return bytes(value)
    if not isinstance(value, str):
        raise InvalidInput("The image's bytes are not base64 text.")
    return from_data_url(value if value[:5].lower() == "data:" else f"data:;base64,{value}")
