"""Server-sent events: how they are written and read. Neither needs a web framework."""

from __future__ import annotations

import codecs
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


async def split_lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """The lines of a stream, which end at LF, CR LF or CR as its standard says.

    An HTTP client's own lines end at more: at a U+2028 inside a JSON string, for example.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest = ""
    async for chunk in chunks:
        rest = (rest + decoder.decode(chunk)).replace("\r\n", "\n")
        # A last CR may be the first half of a CR LF.
        whole, held = (rest[:-1], "\r") if rest.endswith("\r") else (rest, "")
        *lines, rest = whole.replace("\r", "\n").split("\n")
        rest += held
        for line in lines:
            yield line
    for line in (rest + decoder.decode(b"", final=True)).replace("\r", "\n").split("\n"):
        if line:
            yield line
