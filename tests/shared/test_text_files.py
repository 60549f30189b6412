"""Lines and JSON as other programs write them, and errors that name the place of what cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import text_files
from shared.text_files import parse_json, read_lines, read_text, whole_text

SEPARATORS = "\u2028\u2029\u0085\x0b\x0c\x1c\x1d\x1e"
"""What ``str.splitlines`` takes for the end of a line, besides LF and CR."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "list.jsonl"


def lines(file: Path, data: bytes) -> list[tuple[int, object]]:
    file.write_bytes(data)
    return [(line.number, line.json()) for line in read_lines(file)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_every_encoding_with_a_mark_and_every_end_of_line_is_read(
    file: Path, end: str, last: bool, encoding: str
) -> None:
    text = end.join(['{"a": "é"}', "", "  ", '{"a": "日"}']) + (end if last else "")
    assert lines(file, text.encode(encoding)) == [(1, {"a": "é"}), (4, {"a": "日"})]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_said(file: Path, encoding: str) -> None:
    with pytest.raises(ValueError, match="NUL bytes: if the file is UTF-16"):
        lines(file, '{"a": 1}\n'.encode(encoding))


@pytest.mark.parametrize("separator", SEPARATORS)
def test_no_other_separator_ends_a_line(file: Path, separator: str) -> None:
    row = {"question": f"line{separator}two?"}
    data = f'{{"question": "{row["question"]}"}}\n{{"question": "next"}}\n'.encode()
    assert lines(file, data) == [(1, row), (2, {"question": "next"})]


def test_files_that_were_joined_hold_marks_inside(file: Path) -> None:
    one = '{"a": 1}\n'.encode("utf-8-sig")
    assert lines(file, one + one) == [(1, {"a": 1}), (2, {"a": 1})]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"a": "caf\xe9"}', "character 11 is the byte 0xE9, as in a Latin-1 file"),
        (b'{"a": "\x93quoted\x94"}', "character 8 is the byte 0x93"),
        (b'{"a": "\xed\xa0\x80"}', "is the byte 0xED"),
        (b'{"a": 1,}', "property name|trailing comma"),
        (b'{"a": 1, "b": 2, "a": 3}', "has the key 'a' twice"),
        (b'{"a"', "delimiter"),
        (b"\0\0\0", "NUL"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_wrong_with_a_line_is_said(file: Path, line: bytes, words: str) -> None:
    file.write_bytes(b'{"a": 0}\n' + line + b"\n")
    first, second = read_lines(file)
    assert (first.json(), second.number) == ({"a": 0}, 2)
    with pytest.raises(ValueError, match=words):
        second.json()


def test_a_byte_that_is_not_text_is_named_by_line(file: Path) -> None:
    file.write_bytes('[\n "日",\n "'.encode() + b'\xfc"]')
    with pytest.raises(ValueError, match="line 3, character 3 is the byte 0xFC"):
        read_text(file)


def test_a_damaged_utf16_file_is_refused(file: Path) -> None:
    file.write_bytes('{"a": 1}\n'.encode("utf-16")[:-1])
    with pytest.raises(ValueError, match="utf-16"):
        list(read_lines(file))


def test_a_line_that_would_fill_the_memory_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "LONGEST_LINE", 100)
    file.write_text(f'{{"a": 1}}\n{"x" * 101}')
    with pytest.raises(ValueError, match="line 2 is longer than 100"):
        list(read_lines(file))


def test_numbers_that_json_has_not_are_read() -> None:
    assert str(parse_json('{"a": NaN}')) == "{'a': nan}"


def test_half_a_surrogate_pair_becomes_writable() -> None:
    cut = json.loads('"smile \\ud83d"')
    assert whole_text(cut) == "smile \ufffd" and whole_text("smile 😀") == "smile 😀"


@given(st.lists(st.text(st.characters(codec="utf-8"))))
def test_what_is_written_as_json_lines_is_read(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    file = tmp_path_factory.mktemp("lines") / "list.jsonl"
    file.write_text("".join(json.dumps({"a": text}, ensure_ascii=False) + "\n" for text in texts), encoding="utf-8")
    assert [line.json() for line in read_lines(file)] == [{"a": text} for text in texts]
