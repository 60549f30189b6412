"""Server-sent events: how they are written and read. Neither needs a web framework."""

from __future__ import annotations

from collections.abc import AsyncIterator

MEDIA_TYPE = "text/event-stream"
DONE = "[DONE]"
"""The data of the last event of an OpenAI stream."""


def write_event(data: str, *, event: str = "", id: str = "") -> str:
    """One event on the wire. ``data`` is a single line, such as JSON."""
    fields = {"id": id, "event": event, "data": data}
    return "".join(f"{name}: {value}\n" for name, value in fields.items() if value) + "\n"


def write_comment(words: str) -> str:
    """A line that clients ignore; it keeps the connection open."""
    return f": {words}\n\n"


async def read_events(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    """The data of each event; OpenAI's last event is left out.

    The stream is read to its end, so that its connection can be used again.
    """
    async for line in lines:
        data = line.removeprefix("data:").removeprefix(" ")
        if line.startswith("data:") and data != DONE:
            yield data
