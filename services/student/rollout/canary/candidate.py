"""The canary's second engine: which requests it gets, and whether any are still running."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from services.student.engines.base import Conversation, Engine
from services.student.rollout.canary.counts import Tally
from shared.contracts import Canary

HASH_RANGE = 1 << 64


class Candidate:
    """A second engine that serves a share of the requests, and the counts since it began."""

    def __init__(self, engine: Engine, canary: Canary, tally: Tally) -> None:
        self.engine, self.canary, self.tally = engine, canary, tally
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def chooses(self, conversation: Conversation) -> bool:
        """Whether this request belongs to the candidate's share."""
        return request_hash(self.canary.id, conversation) < self.canary.share * HASH_RANGE

    @contextmanager
    def in_use(self) -> Iterator[None]:
        self._running += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def drained(self, timeout: float) -> bool:
        """Wait until no request is running. False if that takes longer than ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True


def request_hash(salt: str, conversation: Conversation) -> int:
    """0 ≤ hash < HASH_RANGE of the conversation, images included. Another ``salt`` selects another share."""
    digest = hashlib.sha256(salt.encode())
    for message in conversation.messages:
        digest.update(message.model_dump_json().encode())
    return int.from_bytes(digest.digest()[:8], "big")
