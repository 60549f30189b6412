"""What is written as server-sent events is read back, through any cutting into lines."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.sse import DONE, read_events, split_lines, write_comment, write_event


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


async def pieces_of(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_events_are_read_through_any_cutting_into_bytes(end: str, size: int) -> None:
    written = [json.dumps({"text": text}, ensure_ascii=False) for text in ("a\u2028b", "c\u2029", "\x85d", "\x7f日")]
    data = "".join(write_event(one, event="e") for one in written).replace("\n", end).encode()
    assert [one async for one in read_events(split_lines(pieces_of(data, size)))] == written


async def test_a_stream_that_is_cut_off_ends_with_its_last_piece() -> None:
    assert [one async for one in split_lines(pieces_of(b"data: 1\r\ndata: \xe6\x97", 4))] == ["data: 1", "data: \ufffd"]
