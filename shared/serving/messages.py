"""The messages of a chat request: from what OpenAI's clients send to what every engine reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.errors import InvalidInput

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
NOT_READ = ("tool_calls", "function_call", "audio")
"""Fields of a message that are part of the conversation but that no engine here can tell the model."""


class Unreadable(InvalidInput):
    """``place`` is the path of the field that is wrong, such as ``messages[0].content[1].text``."""

    def __init__(self, place: str, words: str) -> None:
        super().__init__(f"{place}: {words}.", param=place)


def read_messages(messages: Any) -> list[dict[str, Any]]:
    """Messages with ``role`` (system, user or assistant) and ``content`` alone: a text, or parts of text and images.

    Keys that we do not know are skipped, because clients add their own. Raises Unreadable.
    """
    if not isinstance(messages, list):
        raise Unreadable("messages", f"must be a list of messages, not {kind_of(messages)}")
    if not messages:
        raise Unreadable("messages", "the list is empty: send at least one message")
    return [_read_message(message, f"messages[{number}]") for number, message in enumerate(messages)]


def kind_of(value: Any) -> str:
    """What a JSON value is, in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return "a number"
    return "a text" if isinstance(value, str) else "a list" if isinstance(value, list) else "an object"


def _read_message(message: Any, place: str) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise Unreadable(place, f"must be an object with role and content, not {kind_of(message)}")
    role = ROLES.get(given) if isinstance(given := message.get("role"), str) else None
    if role is None:
        is_tool = given in ("tool", "function")
        why = "tools are not supported here" if is_tool else "must be system, developer, user or assistant"
        raise Unreadable(f"{place}.role", why if given is None else f"{given!r} cannot be read: {why}")
    for name in NOT_READ:
        if message.get(name):
            raise Unreadable(f"{place}.{name}", "is not supported here: leave it out")
    return {"role": role, "content": _read_content(message, role, f"{place}.content")}


def _read_content(message: Mapping[str, Any], role: str, place: str) -> str | list[dict[str, Any]]:
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return [_read_part(part, f"{place}[{number}]") for number, part in enumerate(content)]
    if content is None and role == "assistant":  # an answer without text, or a refusal
        refusal = message.get("refusal")
        return refusal if isinstance(refusal, str) else ""
    found = kind_of(content) if "content" in message else "missing"
    raise Unreadable(place, f"must be a text or a list of parts, but it is {found}")


def _read_part(part: Any, place: str) -> dict[str, Any]:
    if not isinstance(part, dict):
        raise Unreadable(place, f'must be an object such as {{"type": "text", "text": "…"}}, not {kind_of(part)}')
    kind = part.get("type")
    if kind in ("text", "refusal"):
        return {"type": "text", "text": _text(part, kind, place)}
    if kind == "image_url":
        image = part.get("image_url")
        if isinstance(image, str):  # some clients leave the object out
            image = {"url": image}
        if not isinstance(image, dict):
            raise Unreadable(f"{place}.image_url", 'must be an object {"url": "data:image/png;base64,…"}')
        return {"type": "image_url", "image_url": {"url": _text(image, "url", f"{place}.image_url")}}
    raise Unreadable(f"{place}.type", f"{kind!r} cannot be read: parts are text or image_url")


def _text(owner: Mapping[str, Any], name: str, place: str) -> str:
    value = owner.get(name)
    if not isinstance(value, str):
        found = kind_of(value) if name in owner else "missing"
        raise Unreadable(f"{place}.{name}", f"must be a text, but it is {found}")
    return value
