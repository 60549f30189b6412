"""One log of all services: plain in the file, coloured only on a terminal, and never in the way."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from services.supervisor.logbook import REMEMBERED_LINES, LogBook


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Closed(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "mpa.log"


def written(file: Path, stream: io.StringIO) -> LogBook:
    book = LogBook(file, ["web", "trainer"], stream)
    book.write("web", "50 % done: %s")
    book.write("trainer", "ready")
    book.close()
    return book


def test_a_stream_without_a_terminal_gets_the_lines_of_the_file(file: Path) -> None:
    stream = io.StringIO()
    written(file, stream)
    assert stream.getvalue() == file.read_text() == "web     | 50 % done: %s\ntrainer | ready\n"


def test_a_terminal_gets_a_colour_for_each_service_and_the_file_none(file: Path) -> None:
    stream = Terminal()
    written(file, stream)
    first, second = stream.getvalue().splitlines()
    assert first == "\033[36mweb     |\033[0m 50 % done: %s"
    assert second.startswith("\033[32mtrainer |")
    assert "\033" not in file.read_text()


def test_a_stream_that_nobody_reads_does_not_matter(file: Path) -> None:
    written(file, Closed())
    assert "trainer | ready" in file.read_text()


def test_the_last_lines_of_each_service_are_kept(file: Path) -> None:
    book = LogBook(file, ["web"], io.StringIO())
    for number in range(100):
        book.write("web", str(number))
    book.write("other", "alone")
    assert book.last_lines("web", 3) == ["97", "98", "99"]
    assert len(book.last_lines("web", 1000)) == REMEMBERED_LINES
    assert (book.last_lines("other"), book.last_lines("unknown")) == (["alone"], [])
    book.close()
