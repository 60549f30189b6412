"""What a child writes is handed on line by line, and its last lines are kept."""

from __future__ import annotations

import os

import pytest

from shared.processes.output import MAX_LINE, REMEMBERED_LINES, Output, pass_on


def read_all(data: bytes) -> tuple[list[bytes], list[str]]:
    """The lines handed on and the last lines of an output."""
    reader, writer = os.pipe()
    seen: list[bytes] = []
    output = Output(os.fdopen(reader, "rb"), seen.append)
    with os.fdopen(writer, "wb") as stream:
        stream.write(data)
    output.join(10)
    return seen, output.last_lines()


def test_lines_come_as_they_were_written() -> None:
    seen, last = read_all(b"one\r\n\n  two\xff\nno newline")
    assert seen == [b"one\r\n", b"\n", b"  two\xff\n", b"no newline"]
    assert last == ["one", "  two\ufffd", "no newline"]


def test_only_the_newest_lines_are_kept() -> None:
    _, last = read_all(b"".join(b"%d\n" % number for number in range(100)))
    assert last == [str(number) for number in range(100 - REMEMBERED_LINES, 100)]


def test_a_line_without_end_comes_in_parts() -> None:
    seen, _ = read_all(b"x" * (2 * MAX_LINE + 1))
    assert [len(part) for part in seen] == [MAX_LINE, MAX_LINE, 1]


def test_an_open_pipe_does_not_hold_up_who_waits_for_its_end() -> None:
    reader, writer = os.pipe()
    output = Output(os.fdopen(reader, "rb"), None)
    output.join(0.01)
    assert output.last_lines() == []
    os.close(writer)
    output.join(10)


def test_a_line_is_passed_on_to_the_standard_error_output(capfd: pytest.CaptureFixture[str]) -> None:
    pass_on(b"a line\n")
    assert capfd.readouterr().err == "a line\n"
