"""The rows of the tables in docs/openai.md, as requests of the real ``openai`` client and what they are answered."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from shared.serving.neutral import NEUTRAL, Neutral

PAGE = Path(__file__).parents[1] / "docs" / "openai.md"
QUESTION = "what colour is it?"
_OTHER_VALUES: tuple[Any, ...] = (0.5, True, False, "something else", [1], {"a": 1})


@dataclass(frozen=True)
class Row:
    """``fields`` replace those of a plain question. ``param``: the field that a refusal names; None: it is answered."""

    words: str
    fields: dict[str, Any]
    param: str | None = None


def _red_png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (96, 96), (220, 20, 20)).save(file, "PNG")
    return file.getvalue()


RED = _red_png()
PLAIN_URL = "data:image/png;base64," + base64.b64encode(RED).decode()


def messages(*parts: dict[str, Any], content: Any = None, **keys: Any) -> dict[str, Any]:
    """The field ``messages`` with one question."""
    return {"messages": [{"role": "user", "content": list(parts) if parts else content, **keys}]}


def image(url: Any, **keys: Any) -> dict[str, Any]:
    """A question about the image at ``url``; ``keys`` are further keys of the image's object."""
    return messages(
        {"type": "image_url", "image_url": {"url": url, **keys}},
        {"type": "text", "text": QUESTION},
    )


def history(*turns: dict[str, Any]) -> dict[str, Any]:
    """The field ``messages`` with a question, ``turns``, and another question."""
    question = {"role": "user", "content": QUESTION}
    return {"messages": [question, *turns, question]}


FIRST = "messages[0].content[0]"
PART = {"type": "text", "text": QUESTION}
MESSAGE_ROWS = (
    Row("`content` is a text", messages(content=QUESTION)),
    Row("`content` is a list of parts", messages(PART)),
    Row("a question without an image", messages(PART, PART)),
    Row("further keys of a part, such as `cache_control` and `id`", messages({**PART, "cache_control": {}, "id": "1"})),
    Row("further keys of a message, such as `name`", messages(content=QUESTION, name="eve", cache_control=None)),
    Row("`image_url.detail` and other keys of it", image(PLAIN_URL, detail="high", id=7)),
    Row("`image_url` is a text", messages({"type": "image_url", "image_url": PLAIN_URL}, PART)),
    Row("role `developer`: as `system`", {
        "messages": [{"role": "developer", "content": "Be short."}, {"role": "user", "content": QUESTION}],
    }),
    Row("`content` of an assistant's message is null or missing", history(
        {"role": "assistant", "content": None, "refusal": None, "tool_calls": None, "audio": None},
        {"role": "user", "content": "please"},
        {"role": "assistant"},
    )),
    Row("an assistant's `refusal`: it is the text", history({"role": "assistant", "content": None, "refusal": "No."})),
    Row("an assistant's part of type `refusal`", history(
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    )),
    Row("an assistant's message with `tool_calls`", history(
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": {}}]}
    ), "messages[1].tool_calls"),
    Row("role `tool` or `function`", history({"role": "tool", "content": "4"}), "messages[1].role"),
    Row("any other role", history({"role": "bot", "content": "4"}), "messages[1].role"),
    Row("`content` of another message is null or missing", messages(), "messages[0].content"),
    Row("a part of another type, such as `input_audio`", messages({"type": "input_audio"}), f"{FIRST}.type"),
    Row("a part of type `text` without a text", messages({"type": "text", "text": None}), f"{FIRST}.text"),
    Row("a part that is not an object", messages(content=[QUESTION]), FIRST),
    Row("`image_url` without `url`", image(None), f"{FIRST}.image_url.url"),
    Row("no messages", {"messages": []}, "messages"),
    Row("`messages` is not a list", {"messages": QUESTION}, "messages"),
)  # fmt: skip
IMAGE_ROWS = (
    Row("base64 with line breaks or spaces", image("data:image/png;base64," + base64.encodebytes(RED).decode())),
    Row("base64 without padding", image(PLAIN_URL.rstrip("="))),
    Row("base64 in the alphabet for URLs", image("data:image/png;base64," + base64.urlsafe_b64encode(RED).decode())),
    Row("percent-encoded base64", image(PLAIN_URL.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"))),
    Row("upper case in `data:` and `;base64`", image(PLAIN_URL.replace("data:image/png;base64", "DATA:;BASE64"))),
    Row("further parameters of the type", image(PLAIN_URL.replace(";base64", ";charset=utf-8;base64"))),
    Row("no type, or another image's", image(PLAIN_URL.replace("image/png", ""))),
    Row("a data URL that is not base64", image("data:image/png,abc"), "messages"),
)  # fmt: skip
VALUE_ROWS = (
    Row("null for any optional field", dict.fromkeys((
        "temperature", "top_p", "n", "stream", "logprobs", "top_logprobs", "seed", "stop", "stream_options",
        "response_format", "user", "max_completion_tokens", *NEUTRAL,
    ))),
    Row("`max_completion_tokens` instead of `max_tokens`", {"max_tokens": None, "max_completion_tokens": 2}),
    Row("`response_format` is `{\"type\": \"text\"}`", {"response_format": {"type": "text"}}),
    Row("`response_format` of another type than `text`, `json_object`, `json_schema` and `structural_tag`",
        {"response_format": {"type": "yaml"}}, "response_format"),
    Row("`n` is 1", {"n": 1}),
    Row("`n` is 0 or more than 16", {"n": 10**12}, "n"),
    Row("`top_logprobs` is 0", {"top_logprobs": 0}),
    Row("`top_logprobs` above 0 without `logprobs: true`", {"top_logprobs": 2}, "top_logprobs"),
    Row("`stop` is an empty list", {"stop": []}),
    Row("`stop` has up to 4 texts", {"stop": ["~1", "~2", "~3", "~4"]}),
    Row("`stop` has more than 4 texts", {"stop": ["~1", "~2", "~3", "~4", "~5"]}, "stop"),
    Row("`stop` is an empty text", {"stop": ""}, "stop"),
    Row("`stop` holds an empty text", {"stop": ["\n", ""]}, "stop"),
    Row("`stop` is neither a text nor a list of texts", {"stop": [1]}, "stop"),
    Row("`stream_options` is `{}` or `{\"include_usage\": false}`", {"stream_options": {"include_usage": False}}),
    Row("`stream_options.include_usage` without `stream: true`",
        {"stream_options": {"include_usage": True}}, "stream_options"),
    Row("`temperature` below 0 or above 2", {"temperature": 2.5}, "temperature"),
    Row("`top_p` 0 or above 1", {"top_p": 0}, "top_p"),
    Row("`max_tokens` 0 or below", {"max_tokens": -1}, "max_tokens"),
    Row("`seed` outside 64 bits", {"seed": 2**70}, "seed"),
    Row("a value of the wrong type", {"temperature": "hot"}, "temperature"),
    Row("a field that we do not know", {"temprature": 1}, "temprature"),
)  # fmt: skip
ROWS = (*MESSAGE_ROWS, *IMAGE_ROWS, *VALUE_ROWS)


def neutral_rows() -> Iterator[Row]:
    """For each parameter that changes nothing: all its neutral values, and a value that is refused."""
    for name, neutral in NEUTRAL.items():
        for value in (*neutral.values, None) if not neutral.hint else ("any", {"a": "b"}, None):
            yield Row(f"{name} is {json.dumps(value)}", {name: value})
        if not neutral.hint:
            yield Row(f"{name} is not neutral", {name: not_neutral(neutral)}, name)


def not_neutral(neutral: Neutral) -> Any:
    """A value that is refused."""
    return next(value for value in _OTHER_VALUES if not neutral.accepts(value))


ALL_ROWS = [pytest.param((row,), id=re.sub(r"[^\w.]+", "-", row.words)) for row in ROWS]
ALL_ROWS.append(pytest.param(tuple(neutral_rows()), id="parameters-that-change-nothing"))


def check_rows(url: str, model: str, rows: Sequence[Row]) -> None:
    """Send ``rows`` to the service at ``url`` with the ``openai`` client, and compare what it answers."""
    for row in rows:
        _check_row(_client(url), model, row)


@cache
def _client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0, timeout=120)


def _check_row(client: openai.OpenAI, model: str, row: Row) -> None:
    question: Any = messages(content=QUESTION)["messages"]
    fields = {"max_tokens": 2, "temperature": 0, **row.fields}
    if row.param is None:
        reply = client.chat.completions.create(model=model, messages=question, extra_body=fields)
        assert reply.choices[0].message.role == "assistant" and reply.choices[0].finish_reason, row
        return
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=model, messages=question, extra_body=fields)
    error: Any = refused.value.body
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error" and error["param"] == row.param
    assert error["message"].startswith(row.param) or row.param == "messages"
    assert not re.search(r"list\[|function-|tagged-union|Input should|\.str\b", error["message"]), error["message"]


def check_routes(url: str) -> None:
    """Refusals of paths, methods and bodies under ``/v1`` have OpenAI's shape, and a 405 names the right methods."""
    with httpx.Client(base_url=url, timeout=60) as http:
        for method, path in (
            ("POST", "/v1/embeddings"),
            ("GET", "/v1/chat"),
            ("PUT", "/v1/nothing/at/all"),
            ("GET", "/v1"),
        ):
            response = http.request(method, path)
            assert response.status_code == 404 and path in _error(response)["message"]
        for method, path, allowed in (
            ("GET", "/v1/chat/completions", "POST"),
            ("DELETE", "/v1/models", "GET"),
            ("PUT", "/v1/attention", "POST"),
        ):
            response = http.request(method, path)
            assert response.status_code == 405 and response.headers["Allow"] == allowed
            assert allowed in _error(response)["message"]
        body = json.dumps({"model": "x", "messages": []})
        wrong_type = http.post("/v1/chat/completions", content=body, headers={"Content-Type": "text/plain"})
        assert wrong_type.status_code == 400 and "text/plain" in _error(wrong_type)["message"]
        assert "not valid JSON" in _error(http.post("/v1/chat/completions", content=b"{"))["message"]
    with pytest.raises(openai.NotFoundError):
        _client(url).embeddings.create(model="x", input="y")


def _error(response: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return error
