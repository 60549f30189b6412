"""What the swap benchmark would notice."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.serving.swap_load import Answer, Load, ask_each, closed_loop


def test_an_answer_of_one_version_under_another_ones_name_is_mixed() -> None:
    truth = {"base": ["red", "two"], "job-1": ["blue", "two"]}
    load = Load(answers=[Answer(0, "base", "red"), Answer(0, "job-1", "red"), Answer(1, "job-1", "two")])
    assert load.mixed(truth) == 1


def test_percentiles_and_sums() -> None:
    first = Load(seconds=1.0, latencies=[0.1] * 98)
    merged = Load.merged(first, Load(seconds=1.0, latencies=[0.5, 0.9], failures=["500"]))
    assert (merged.percentile(0.5), merged.percentile(0.99), merged.per_second) == (0.1, 0.9, 50.0)
    assert merged.failures == ["500"]


async def test_refused_requests_are_failures_not_answers() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            await reader.readexactly(int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]))
            writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}")
            stop.set()

    stop = asyncio.Event()
    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    load = await closed_loop(port, [b"{}"], clients=2, stop=stop)
    assert load.answers == [] and len(load.failures) >= 2
    with pytest.raises(RuntimeError, match="503"):
        await ask_each(port, [b"{}"])
    server.close()
