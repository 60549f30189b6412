"""A client that keeps asking the running student while it is swapped, and counts what it gets."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from shared.client import StudentClient, image_question
from shared.errors import MPAError
from shared.images import to_data_url

QUESTION = "what is this?"


@dataclass
class LoadResult:
    """Requests answered and failed; ``versions`` counts answers by the checkpoint that gave them."""

    served: int = 0
    failed: int = 0
    versions: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)


class ClientLoad:
    """Asks at a gentle rate until ``press`` is called, then with several requests in flight without a pause."""

    def __init__(self, student_url: str, images: list[Path], *, gentle_pause: float = 0.5, in_flight: int = 4) -> None:
        self._client = StudentClient(student_url, model="student", timeout=60.0)
        self._images = itertools.cycle([to_data_url(path.read_bytes()) for path in images])
        self._gentle_pause = gentle_pause
        self._in_flight = in_flight
        self._pressing = asyncio.Event()
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.result = LoadResult()

    def start(self) -> None:
        self._tasks.append(asyncio.create_task(self._ask_until_stopped()))

    def press(self) -> None:
        """From now on several requests are in flight all the time."""
        if not self._pressing.is_set():
            self._pressing.set()
            self._tasks += [asyncio.create_task(self._ask_until_stopped()) for _ in range(self._in_flight - 1)]

    async def stop(self) -> LoadResult:
        self._stopping.set()
        await asyncio.gather(*self._tasks)
        await self._client.aclose()
        return self.result

    async def _ask_until_stopped(self) -> None:
        while not self._stopping.is_set():
            await self._ask()
            if not self._pressing.is_set():
                await asyncio.sleep(self._gentle_pause)

    async def _ask(self) -> None:
        request = image_question("student", next(self._images), QUESTION, max_tokens=8, temperature=0.0)
        try:
            reply = await self._client.chat(request)
        except MPAError as error:
            self.result.failed += 1
            self.result.errors.append(error.detail)
            return
        self.result.served += 1
        self.result.versions[reply.checkpoint or "unknown"] += 1
