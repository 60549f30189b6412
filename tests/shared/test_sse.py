"""What is written as server-sent events is read back, through any cutting into lines."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from hypothesis import given
from hypothesis import strategies as st

from shared.sse import DONE, read_events, write_comment, write_event


async def lines_of(*events: str) -> AsyncIterator[str]:
    for line in "".join(events).split("\n"):
        yield line


async def read(*events: str) -> list[str]:
    return [data async for data in read_events(lines_of(*events))]


@given(st.lists(st.text()))
async def test_what_is_written_is_read(texts: list[str]) -> None:
    written = [json.dumps(text) for text in texts]
    assert await read(*(write_event(data) for data in written)) == written


async def test_only_data_is_read_and_openais_last_event_is_not() -> None:
    events = [write_comment("still here"), write_event("{}", event="status", id="7"), write_event(DONE)]
    assert events[1] == "id: 7\nevent: status\ndata: {}\n\n"
    assert await read(*events) == ["{}"]
    assert await read("data:no space\n\n") == ["no space"]
