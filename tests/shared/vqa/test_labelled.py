"""Labelled files: good ones, and every kind of bad one by its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.errors import InvalidInput
from shared.vqa.labelled import answers_of, read_json, read_lines, text_of


def test_lines_are_numbered_as_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "b.jsonl"
    path.write_text('{"a": 1}\n\n  \n{"a": 2}\n', encoding="utf-8")
    assert list(read_lines(path)) == [(1, f"{path}, line 1", {"a": 1}), (4, f"{path}, line 4", {"a": 2})]


@pytest.mark.parametrize(("line", "problem"), [("{", "not JSON"), ("[1]", "an object was expected")])
def test_a_bad_line_is_named(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "b.jsonl"
    path.write_text("{}\n" + line, encoding="utf-8")
    with pytest.raises(InvalidInput, match=rf"b\.jsonl, line 2: {problem}"):
        list(read_lines(path))


def test_a_file_that_is_missing_or_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.json").write_bytes(b'"\xe9"')
    for name in ("none.json", "latin.json"):
        with pytest.raises(InvalidInput, match=f"{name} cannot be read"):
            read_json(tmp_path / name)


def test_a_benchmark_from_a_spreadsheet_or_with_separators_in_its_texts_is_read(tmp_path: Path) -> None:
    path = tmp_path / "b.jsonl"
    path.write_bytes(
        "\ufeff".encode() + '{"image": "a.png", "question": "line\u2028two?", "answers": ["a"]}\r\n'.encode()
    )
    ((number, _, record),) = read_lines(path)
    assert (number, record["question"]) == (1, "line\u2028two?")
    (tmp_path / "b.json").write_bytes(path.read_bytes())
    assert read_json(tmp_path / "b.json") == record


def test_a_line_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_bytes(b'{"a": 1}\n{"a": "caf\xe9"}\n')
    with pytest.raises(InvalidInput, match=r"b.jsonl, line 2: not JSON: it is not UTF-8: .* 0xE9"):
        list(read_lines(tmp_path / "b.jsonl"))


def test_half_a_surrogate_pair_does_not_stop_a_benchmark() -> None:
    assert text_of({"key": "cut \ud83d"}, "key", "here") == "cut \ufffd"
    assert answers_of({"answers": ["\ud83d"]}, "here") == ("\ufffd",)


@pytest.mark.parametrize("record", [{}, {"key": ""}, {"key": True}, {"key": ["x"]}, {"key": None}])
def test_a_text_that_is_none_is_refused(record: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="here: 'key' is missing or not a text"):
        text_of(record, "key", "here")


def test_a_number_is_a_text() -> None:
    assert text_of({"key": 34602}, "key", "here") == "34602"


@pytest.mark.parametrize("answers", ["one", [1], {"a": "b"}, None])
def test_answers_are_a_list_of_texts(answers: Any) -> None:
    with pytest.raises(InvalidInput, match="'answers' must be a list of texts"):
        answers_of({"answers": answers}, "here")
    assert answers_of({}, "here") == ()
