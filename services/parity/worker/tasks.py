"""The Celery side of the worker: thin tasks over ShardWork, stopped in time when the process has to end."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from contextlib import nullcontext

from celery import Celery, Task
from celery.exceptions import Reject

from shared.errors import NewerSchema
from shared.queue import COLLECT_TASK, check_message, trace_of
from shared.telemetry import log_fields
from shared.telemetry.tracing import Traces

log = logging.getLogger(__name__)

Work = Callable[[str, int], Awaitable[None]]


class Stopping(Exception):
    """The process is ending; the work was given back."""


class Runner:
    """Runs shards in the threads of Celery's pool, each on an event loop of its own, and can stop them all."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._stopping = False
        self._running: dict[asyncio.AbstractEventLoop, asyncio.Task[None]] = {}

    def run(self, job_id: str, shard: int) -> None:
        """Blocks until the shard is done. Raises Stopping."""
        try:
            asyncio.run(self._main(job_id, shard))
        except asyncio.CancelledError as cancelled:
            raise Stopping from cancelled

    def stop(self) -> None:
        """Cancel everything that runs; it gives its leases back. Safe from any thread."""
        with self._lock:
            self._stopping = True
            for loop, task in self._running.items():
                loop.call_soon_threadsafe(task.cancel)

    async def _main(self, job_id: str, shard: int) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        with self._lock:
            if self._stopping:
                raise asyncio.CancelledError
            self._running[loop] = task
        try:
            await self._work(job_id, shard)
        finally:
            with self._lock:
                del self._running[loop]


def register(app: Celery, runner: Runner, traces: Traces | None = None) -> None:
    """Add the task that parity workers serve."""

    @app.task(name=COLLECT_TASK, bind=True, shared=False)  # type: ignore[untyped-decorator]
    def collect_shard(task: Task, job_id: str, shard: int, **_newer: object) -> None:
        ids: dict[str, str | int] = {"mpa.job_id": job_id, "mpa.shard": shard}
        span = traces.root(COLLECT_TASK, "consumer", trace_of(task), ids) if traces else nullcontext()
        try:
            check_message(task.request.headers)
            with span, log_fields(job_id=job_id, shard=shard):
                runner.run(job_id, shard)
        except Stopping as stopping:
            raise Reject("the worker is stopping", requeue=True) from stopping
        except NewerSchema as error:
            log.warning("Left to a newer worker: %s", error.detail, extra={"job_id": job_id, "shard": shard})
