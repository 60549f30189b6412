"""The body of a chat request: what is read, what an engine gets, and what is refused in which words."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from shared.errors import InvalidInput
from shared.serving.chat_request import read_chat
from tests.openai_rows import PAGE, QUESTION, ROWS, Row

MESSAGES = [{"role": "user", "content": QUESTION}]


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": MESSAGES, **fields}).encode()


def refusal(content: bytes) -> InvalidInput:
    with pytest.raises(InvalidInput) as refused:
        read_chat(content)
    return refused.value


@pytest.mark.parametrize("row", [row for row in ROWS if row.param and row.param != "messages"], ids=lambda r: r.words)
def test_a_refusal_names_the_field(row: Row) -> None:
    error = refusal(body(**row.fields))
    assert error.param == row.param and error.detail.startswith(f"{row.param}: ")


@pytest.mark.parametrize("row", [row for row in ROWS if not row.param], ids=lambda row: row.words)
def test_an_engine_gets_what_was_read(row: Row) -> None:
    """Reading its body once more changes nothing."""
    asked = read_chat(body(**row.fields))
    again = read_chat(asked.body)
    assert again.request == asked.request and again.body == asked.body
    assert None not in json.loads(asked.body).values()


def test_the_docs_list_every_row() -> None:
    listed = [
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in PAGE.read_text().split("## What is accepted")[1].split("\n## ")[0].splitlines()
        if line.startswith("| ") and not line.startswith("| what ")
    ]
    assert listed == [(row.words, "400" if row.param else "200") for row in ROWS]


def test_a_body_passes_as_it_came_unless_it_must_change() -> None:
    plain = body(temperature=0.5, n=2, stop=["a"], response_format={"type": "json_object"}) + b"  "
    assert read_chat(plain).body is plain
    assert json.loads(read_chat(body(temperature=None, tools=[], store=False)).body) == json.loads(body())


def test_an_engine_that_knows_a_neutral_parameter_gets_it() -> None:
    """The model's own generation config may have another default."""
    told = {"repetition_penalty": 1.0, "top_k": -1, "min_p": 0, "reasoning_effort": "low"}
    assert json.loads(read_chat(body(**told)).body).items() >= told.items()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_every_encoding_of_json_is_read_and_sent_on_as_utf_8(encoding: str) -> None:
    messages = [{"role": "user", "content": "Wie heißt die Straße?"}]
    text = json.dumps({"model": "m", "messages": messages}, ensure_ascii=False)
    asked = read_chat(text.encode(encoding))
    assert json.loads(asked.body.decode("utf-8"))["messages"] == messages


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not valid JSON: it is empty"),
        (b"{", "not valid JSON"),
        (b"model=m", "not valid JSON"),
        (b"[]", "must be a JSON object with model and messages, not a list"),
        (b"null", "not null"),
        (b'"text"', "not a text"),
        (b"\xff\xfe\xfd", "not valid JSON"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (body(temperature=float("nan")), "NaN is not a JSON value"),
        (b'{"model": "m", "messages": [], "top_p": 1e999}', "1e999 is larger than any number"),
        (json.dumps({"messages": MESSAGES}).encode(), "model: missing"),
        (json.dumps({"model": None, "messages": MESSAGES}).encode(), "model: missing"),
        (json.dumps({"model": "m"}).encode(), "messages: missing"),
        (body(presence_penalty=0.5), "presence_penalty: 0.5 is not supported here: leave the field out, or send 0"),
        (body(stop=5), "stop: must be a text or a list of texts"),
        (body(temperature="hot", n=0), r"temperature: should be a valid number.*; n: should be greater"),
    ],
)
def test_bad_bodies_are_refused_in_words(content: bytes, words: str) -> None:
    assert re.search(words, refusal(content).detail), refusal(content).detail


def test_codes_that_openais_clients_know() -> None:
    assert refusal(body(temprature=1)).slug == "unknown_parameter"
    assert refusal(body(frequency_penalty=1.0)).slug == "unsupported_value"
