"""The job store for code without an event loop: the trainer's worker process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

from shared.state.jobs import JobStore

T = TypeVar("T")
CALL_TIMEOUT = 30.0


class BlockingJobStore:
    """Runs JobStore's coroutines on a loop in a thread of its own; safe to call from any thread.

    ``with BlockingJobStore(url) as jobs: lease = jobs.run(jobs.store.trainings.acquire(...))``
    """

    def __init__(self, redis_url: str) -> None:
        self.store = JobStore.from_url(redis_url)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="job-store", daemon=True)
        self._thread.start()

    def run(self, call: Coroutine[Any, Any, T], timeout: float = CALL_TIMEOUT) -> T:
        """The coroutine's result; raises what it raises, and TimeoutError after ``timeout`` seconds."""
        return asyncio.run_coroutine_threadsafe(call, self._loop).result(timeout)

    def close(self) -> None:
        self.run(self.store.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
