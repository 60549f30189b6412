"""`POST /v1/chat/completions` as both model services read it: OpenAI's dialect, with errors in the caller's words."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

from fastapi import Depends, Request
from pydantic import ValidationError

from shared.contracts import EXAMPLE_IMAGE, ChatRequest
from shared.errors import InvalidInput
from shared.http.errors import invalid_fields
from shared.http.openapi import JSON, REF, errors, named, sse
from shared.serving.messages import Unreadable, kind_of, read_messages
from shared.serving.neutral import NEUTRAL

MAX_STOPS = 4
FORMATS = ("text", "json_object", "json_schema", "structural_tag")


@dataclass(frozen=True)
class AskedChat:
    """``body`` is the JSON for an engine that speaks OpenAI's dialect itself: as it came, unless it had to change."""

    request: ChatRequest
    body: bytes


def _body_schema() -> dict[str, Any]:
    """`ChatRequest` as it may be sent: any optional field may be null, and neutral parameters may stand beside it."""
    schema = ChatRequest.model_json_schema(ref_template=REF)
    for name, field in schema["properties"].items():
        if name not in schema["required"]:
            _allow_null(field)
    for name, neutral in NEUTRAL.items():
        schema["properties"][name] = {
            "description": f"Not honoured; accepted: {neutral.words}.",
            "examples": [*neutral.values, None][:1],
        }
    schema["examples"] = [_EXAMPLE]
    return schema


def _allow_null(field: dict[str, Any]) -> None:
    forms = field.pop("anyOf", None)
    if forms is None:
        kept = {key: field.pop(key) for key in list(field) if key not in ("title", "description", "default")}
        forms = [kept]
    field["anyOf"] = forms if {"type": "null"} in forms else [*forms, {"type": "null"}]


_EXAMPLE = {
    "model": "student",
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{EXAMPLE_IMAGE}"}},
                {"type": "text", "text": "How many bars are red?"},
            ],
        }
    ],
    "max_tokens": 16,
    "temperature": 0,
}
_CHUNK = '{"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "two"}}]}'
CHAT_BODY = {"requestBody": {"required": True, "content": {JSON: {"schema": named("ChatRequest", _body_schema())}}}}
CHAT_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer; with stream: true, its parts.",
        "content": sse("chunks of the answer, then [DONE]", f"data: {_CHUNK}\n\ndata: [DONE]\n\n"),
    },
    **errors(404, 429, 502, 503),
}


async def asked_chat(request: Request) -> AskedChat:
    """Raises InvalidInput naming the field that is wrong."""
    content_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if content_type != "application/json" and not content_type.endswith("+json"):
        error = InvalidInput(f"The body has the content type {content_type!r}: send Content-Type: application/json.")
        error.slug = "unsupported_content_type"
        raise error
    return read_chat(await request.body())


AskedChatDep = Annotated[AskedChat, Depends(asked_chat)]


def read_chat(body: bytes) -> AskedChat:
    """Raises InvalidInput naming the field that is wrong."""
    raw = _read_json(body)
    plain = _read_fields(raw)
    known = {name: value for name, value in plain.items() if name not in NEUTRAL}
    try:
        request = ChatRequest.model_validate(known)
    except ValidationError as error:
        raise invalid_fields(error.errors(include_url=False), known) from error
    unchanged = plain == raw and json.detect_encoding(body) == "utf-8"
    return AskedChat(request, body if unchanged else json.dumps(plain).encode())


def _read_json(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body, parse_constant=_refuse_constant, parse_float=_read_float)
    except RecursionError as error:
        raise InvalidInput("The body is nested too deeply.") from error
    except ValueError as error:
        why = "it is empty" if not body.strip() else str(error)
        raise InvalidInput(f"The body is not valid JSON: {why}.") from error
    if not isinstance(content, dict):
        raise InvalidInput(f"The body must be a JSON object with model and messages, not {kind_of(content)}.")
    return content


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _read_float(text: str) -> float:
    if math.isinf(number := float(text)):
        raise ValueError(f"{text[:20]} is larger than any number that a program can hold")
    return number


def _read_fields(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that mean something, in the form that every engine reads. ``null`` means the default everywhere."""
    for name, value in raw.items():
        _check_known(name, value)
    fields = {
        name: value
        for name, value in raw.items()
        if value is not None and (name not in NEUTRAL or NEUTRAL[name].engine_reads)
    }
    for name, read in _READERS.items():
        if name in fields:
            fields[name] = read(fields[name])
            if fields[name] is None:
                del fields[name]
    _check_together(fields)
    return fields


def _check_known(name: str, value: Any) -> None:
    if name in ChatRequest.model_fields:
        return
    neutral = NEUTRAL.get(name)
    if neutral is None:
        unknown = Unreadable(name, "unknown field: remove it or fix its spelling")
        unknown.slug = "unknown_parameter"
        raise unknown
    if not neutral.accepts(value):
        shown = json.dumps(value, ensure_ascii=False)
        shown = shown if len(shown) <= 60 else f"{shown[:60]}…"
        unsupported = Unreadable(name, f"{shown} is not supported here: leave the field out, or send {neutral.words}")
        unsupported.slug = "unsupported_value"
        raise unsupported


def _read_stop(stop: Any) -> str | list[str] | None:
    texts = [stop] if isinstance(stop, str) else stop
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Unreadable("stop", "must be a text or a list of texts")
    if "" in texts:
        raise Unreadable("stop", "an empty text would end every answer at once: leave it out")
    if len(texts) > MAX_STOPS:
        raise Unreadable("stop", f"has {len(texts)} texts; at most {MAX_STOPS} are read")
    return stop if texts else None


def _read_stream_options(options: Any) -> dict[str, Any] | None:
    if not isinstance(options, dict):
        raise Unreadable("stream_options", f"must be an object, not {kind_of(options)}")
    for name, value in options.items():
        if name == "continuous_usage_stats" and value:
            raise Unreadable(f"stream_options.{name}", "is not supported here: leave it out")
    usage = options.get("include_usage")
    if not isinstance(usage, bool | None):
        raise Unreadable("stream_options.include_usage", f"must be true or false, not {kind_of(usage)}")
    return {"include_usage": True} if usage else None


def _read_format(form: Any) -> dict[str, Any] | None:
    kind = form.get("type") if isinstance(form, dict) else None
    if kind not in FORMATS:
        raise Unreadable(
            "response_format", f'must be an object such as {{"type": "text"}}; types are {", ".join(FORMATS)}'
        )
    return None if kind == "text" else form


_READERS: dict[str, Callable[[Any], Any]] = {
    "messages": read_messages,
    "stop": _read_stop,
    "stream_options": _read_stream_options,
    "response_format": _read_format,
}


def _check_together(fields: dict[str, Any]) -> None:
    if "stream_options" in fields and not fields.get("stream"):
        raise Unreadable("stream_options", "needs stream: true")
    if "top_logprobs" in fields and not fields.get("logprobs"):
        if fields["top_logprobs"] != 0:
            raise Unreadable("top_logprobs", "needs logprobs: true")
        del fields["top_logprobs"]
