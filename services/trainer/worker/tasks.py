"""The Celery side of the worker: one thin task, stopped in time when the process has to end."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from contextlib import nullcontext

from celery import Celery, Task
from celery.exceptions import Reject

from services.trainer.errors import Stopping
from shared.errors import NewerSchema
from shared.queue import TRAIN_TASK, check_message, trace_of
from shared.telemetry import log_fields
from shared.telemetry.tracing import Traces

logger = logging.getLogger(__name__)

Work = Callable[[str], Awaitable[None]]


class Runner:
    """Runs trainings in a thread of Celery's pool, each on an event loop of its own, and can stop the one that runs."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._stopping = False
        self._running: dict[asyncio.AbstractEventLoop, asyncio.Task[None]] = {}

    def run(self, job_id: str) -> None:
        """Blocks until the training is over. Raises Stopping if the process ends first."""
        try:
            asyncio.run(self._main(job_id))
        except asyncio.CancelledError as cancelled:
            raise Stopping from cancelled

    def stop(self) -> None:
        """Cancel what runs; it gives its lease back. Safe from any thread."""
        with self._lock:
            self._stopping = True
            for loop, task in self._running.items():
                loop.call_soon_threadsafe(task.cancel)

    async def _main(self, job_id: str) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        with self._lock:
            if self._stopping:
                raise asyncio.CancelledError
            self._running[loop] = task
        try:
            await self._work(job_id)
        finally:
            with self._lock:
                del self._running[loop]


def register(app: Celery, runner: Runner, traces: Traces | None = None) -> None:
    """Add the task that trainers serve."""

    @app.task(name=TRAIN_TASK, bind=True, shared=False)  # type: ignore[untyped-decorator]
    def train_job(task: Task, job_id: str, **_newer: object) -> None:
        span = traces.root(TRAIN_TASK, "consumer", trace_of(task), {"mpa.job_id": job_id}) if traces else nullcontext()
        try:
            check_message(task.request.headers)
            with span, log_fields(job_id=job_id):
                runner.run(job_id)
        except Stopping as stopping:
            raise Reject("the worker is stopping", requeue=True) from stopping
        except NewerSchema as error:
            logger.warning("Left to a newer worker: %s", error.detail, extra={"job_id": job_id})
