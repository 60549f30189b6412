"""A closed-loop load over plain HTTP/1.1 connections: light, so that the client takes little of a small machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

TIMEOUT = 120.0


@dataclass
class Load:
    """What a load got: seconds of each answered request, and the first line of each refused one."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        """Seconds within which ``share`` of the requests were answered."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def run_load(port: int, bodies: Sequence[bytes], *, clients: int, path: str = "/v1/chat/completions") -> Load:
    """Send every body once; each of ``clients`` keeps one connection and one request in flight."""
    load = Load()
    rest = iter(bodies)
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(clients)]
    started = time.perf_counter()
    async with asyncio.timeout(TIMEOUT):
        await asyncio.gather(*(_ask_in_turn(reader, writer, path, rest, load) for reader, writer in connections))
    load.seconds = time.perf_counter() - started
    for _, writer in connections:
        writer.close()
    return load


async def _ask_in_turn(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, rest: Iterator[bytes], load: Load
) -> None:
    for body in rest:
        started = time.perf_counter()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        lines = answer.decode("latin-1").split("\r\n")
        length = next(int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:"))
        await reader.readexactly(length)
        if " 200 " in lines[0]:
            load.latencies.append(time.perf_counter() - started)
        else:
            load.failures.append(lines[0])
