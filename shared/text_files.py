"""Text from outside, read in one way: lists of images, benchmarks, predictions, specs.

UTF-8 with or without a byte order mark, and UTF-16 and UTF-32 with one. A line ends at LF, CR LF or CR and nowhere
else: the separators that ``str.splitlines`` also knows (U+2028, U+0085, form feed …) may stand inside a JSON string.
"""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

LONGEST_LINE = 64 << 20
"""Characters. A longer line is refused before it fills the memory."""
_MARKS = (  # UTF-32 first: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MARK = "\ufeff"
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")
_LONE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Line:
    """A line with text in it. Numbers count from 1, blank lines included, as editors show them."""

    number: int
    text: str

    def json(self) -> object:
        """Raises ValueError with what is wrong."""
        return parse_json(self.text)


def read_lines(path: Path) -> Iterator[Line]:
    """The lines that are not blank, one in memory at a time. Raises OSError, and ValueError for a damaged UTF-16."""
    with _opened(path) as file:
        number = 0
        while text := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(text) > LONGEST_LINE:
                raise ValueError(f"line {number} is longer than {LONGEST_LINE} characters: write one object a line")
            if text.strip():
                yield Line(number, text.removeprefix(_MARK).rstrip("\n"))


def read_text(path: Path) -> str:
    """The whole text without its mark. Raises OSError, and ValueError that names the line of a wrong byte."""
    with _opened(path) as file:
        text = file.read().removeprefix(_MARK)
    _check(text)
    return text


def parse_json(text: str) -> object:
    """Raises ValueError with what is wrong. Control characters may stand in strings, as in text from OCR."""
    _check(text)
    try:
        return json.loads(text, strict=False, object_pairs_hook=_once)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def whole_text(text: str) -> str:
    """``text`` with U+FFFD for halves of surrogate pairs: JSON may hold them (a cut emoji), UTF-8 cannot."""
    return _LONE.sub("\ufffd", text)


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    with path.open("rb") as binary:
        start = binary.peek(4)[:4]
        encoding = next((name for mark, name in _MARKS if start.startswith(mark)), None)
        # Bytes that are not UTF-8 become characters that tell them, so that an error can name the line.
        errors = "surrogateescape" if encoding is None else "strict"
        with io.TextIOWrapper(binary, encoding or "utf-8-sig", errors) as text:
            yield text


def _check(text: str) -> None:
    wrong = _ESCAPED_BYTE.search(text)
    if wrong is not None:
        line, column = text.count("\n", 0, wrong.start()), wrong.start() - text.rfind("\n", 0, wrong.start())
        place = f"line {line + 1}, character {column}" if line else f"character {column}"
        raise ValueError(
            f"it is not UTF-8: {place} is the byte 0x{ord(wrong.group()) - 0xDC00:02X}, as in a Latin-1 file; "
            "save the file as UTF-8"
        )
    if "\0" in text:
        raise ValueError("it holds NUL bytes: if the file is UTF-16 without a byte order mark, save it as UTF-8")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it has the key {twice!r} twice")
    return found
