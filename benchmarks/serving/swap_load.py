"""A closed-loop load that records which checkpoint gave which answer."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from shared.client import CHECKPOINT_HEADER

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
Truth = dict[str, list[str]]
"""Version to its answers, by number of the request."""


@dataclass(frozen=True)
class Answer:
    number: int
    version: str
    text: str


@dataclass
class Load:
    """What a load got: answers, seconds of each, and the status line of each refused request."""

    seconds: float = 0.0
    answers: list[Answer] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @classmethod
    def merged(cls, *loads: Load) -> Load:
        found = cls()
        for load in loads:
            found.seconds += load.seconds
            found.answers += load.answers
            found.latencies += load.latencies
            found.failures += load.failures
        return found

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        """Seconds within which ``share`` of the requests were answered."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def mixed(self, truth: Truth) -> int:
        """Answers that are not what the checkpoint they name says to that request."""
        return sum(truth[answer.version][answer.number] != answer.text for answer in self.answers)


async def ask_each(port: int, bodies: Sequence[bytes]) -> list[str]:
    """The answer to every body, asked one after the other."""
    load = Load()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number, body in enumerate(bodies):
        await _ask(reader, writer, number, body, load)
    writer.close()
    if load.failures:
        raise RuntimeError(f"The student did not answer: {load.failures[0]}")
    return [answer.text for answer in load.answers]


async def closed_loop(port: int, bodies: Sequence[bytes], *, clients: int, stop: asyncio.Event) -> Load:
    """Ask ``bodies`` in turn, over and over, from ``clients`` connections with one request in flight each."""
    load = Load()
    numbers = itertools.cycle(range(len(bodies)))
    started = time.perf_counter()
    await asyncio.gather(*(_client(port, bodies, numbers, stop, load) for _ in range(clients)))
    load.seconds = time.perf_counter() - started
    return load


async def _client(port: int, bodies: Sequence[bytes], numbers: Iterator[int], stop: asyncio.Event, load: Load) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while not stop.is_set():
        number = next(numbers)
        await _ask(reader, writer, number, bodies[number], load)
    writer.close()


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int, body: bytes, load: Load
) -> None:
    started = time.perf_counter()
    writer.write(HEAD % len(body) + body)
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    answer = json.loads(await reader.readexactly(int(fields["content-length"])))
    if " 200 " not in lines[0]:
        load.failures.append(f"{lines[0]}: {answer}")
        return
    load.latencies.append(time.perf_counter() - started)
    version = fields[CHECKPOINT_HEADER.lower()]
    load.answers.append(Answer(number, version, answer["choices"][0]["message"]["content"]))
