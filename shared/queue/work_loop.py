"""The one event loop of a worker process, which does the work that Celery's pool threads hand to it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import Any, Self

from shared.concurrency import end_loops

Work = Callable[..., Coroutine[Any, Any, None]]
OpenWork = Callable[[], AbstractAsyncContextManager[Work]]

CANCEL_AGAIN = 15.0
"""Seconds that stopped work has to give its lease back before it is cancelled once more."""


class Stopping(Exception):
    """The process is ending; the work was given back."""


class WorkLoop:
    """Runs work for many threads on one event loop, in a thread of its own, as long as the ``with`` block lasts.

    ``open_work`` is entered on that loop, so that connections which belong to a loop can be shared by all the work.
    ``threads`` is the number of callers; blocking steps get as many threads as they would have on a loop per caller.
    """

    def __init__(self, open_work: OpenWork, threads: int = 1) -> None:
        self._open_work = open_work
        self._blocking = ThreadPoolExecutor(threads * min(32, (os.cpu_count() or 1) + 4), "blocking")
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="work-loop", daemon=True)
        self._opened: concurrent.futures.Future[tuple[asyncio.AbstractEventLoop, Work]] = concurrent.futures.Future()
        self._running: set[asyncio.Task[Any]] = set()
        self._stopping = False
        self._stop, self._close = asyncio.Event(), asyncio.Event()

    def __enter__(self) -> Self:
        """Raises what ``open_work`` raises."""
        self._thread.start()
        self._loop, self._work = self._opened.result()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._close.set)
        self._thread.join()

    def run(self, *ids: Any) -> None:
        """Block until the work is done. Raises what it raises, and Stopping if the process ends first.

        The work sees the context variables of the caller: its trace and the fields of its log lines.
        """
        done = asyncio.run_coroutine_threadsafe(self._do(ids), self._loop)
        try:
            done.result()
        except concurrent.futures.CancelledError as cancelled:
            raise Stopping from cancelled

    def stop(self) -> None:
        """Cancel all work, which then gives its leases back, and take no more. Safe from any thread."""
        self._stopping = True
        self._loop.call_soon_threadsafe(self._stop.set)

    async def _serve(self) -> None:
        try:
            loop = asyncio.get_running_loop()
            loop.set_default_executor(self._blocking)
            async with self._open_work() as work:
                self._opened.set_result((loop, work))
                await self._stop.wait()
                await end_loops(self._running, CANCEL_AGAIN)
                await self._close.wait()
        except Exception as error:
            if self._opened.done():
                raise
            self._opened.set_exception(error)

    async def _do(self, ids: tuple[Any, ...]) -> None:
        if self._stopping:
            raise asyncio.CancelledError
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            await self._work(*ids)
        finally:
            self._running.discard(task)
