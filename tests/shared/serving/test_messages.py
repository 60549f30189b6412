"""Messages as OpenAI's clients send them."""

from __future__ import annotations

from typing import Any

import pytest

from shared.serving.messages import Unreadable, read_messages
from tests.openai_rows import MESSAGE_ROWS, Row


@pytest.mark.parametrize("row", [row for row in MESSAGE_ROWS if row.param], ids=lambda row: row.words)
def test_what_cannot_be_read_is_named(row: Row) -> None:
    with pytest.raises(Unreadable) as refused:
        read_messages(row.fields["messages"])
    assert refused.value.param == row.param and refused.value.detail.startswith(str(row.param))


@pytest.mark.parametrize("row", [row for row in MESSAGE_ROWS if not row.param], ids=lambda row: row.words)
def test_what_can_be_read_has_one_form(row: Row) -> None:
    for message in read_messages(row.fields["messages"]):
        assert message.keys() == {"role", "content"} and message["role"] in ("system", "user", "assistant")
        for part in message["content"] if isinstance(message["content"], list) else ():
            assert part.keys() == {"type", part["type"]}


@pytest.mark.parametrize(
    ("content", "read"),
    [
        ({"content": None, "refusal": "No."}, "No."),
        ({"content": [{"type": "refusal", "refusal": "No."}]}, [{"type": "text", "text": "No."}]),
        ({"content": "Yes.", "refusal": None, "tool_calls": [], "audio": None}, "Yes."),
        ({}, ""),
    ],
)
def test_an_assistants_words(content: dict[str, Any], read: Any) -> None:
    assert read_messages([{"role": "assistant", **content}]) == [{"role": "assistant", "content": read}]


@pytest.mark.parametrize("wrong", [None, 5, True, "text", {}, [None], [5], ["text"], [[]], [{}], [{"role": None}]])
def test_no_value_is_read_as_another(wrong: Any) -> None:
    with pytest.raises(Unreadable, match=r"^messages"):
        read_messages(wrong)
