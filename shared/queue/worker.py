"""A worker process: Celery's pool threads take the messages of one queue, and one event loop does their work.

Threads, because work waits for models or for a child process most of the time, and because Celery's prefork pool lost
messages when Redis was killed.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Any

from celery import Celery, Task
from celery.exceptions import Reject
from celery.signals import worker_shutting_down
from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry

from shared.errors import NewerSchema
from shared.queue.broker import check_message, make_celery, trace_of
from shared.queue.watchdog import Patience, Workload, watched
from shared.queue.work_loop import Stopping, Work, WorkLoop
from shared.settings import ParitySettings, TrainerSettings
from shared.state.presence import present
from shared.telemetry import log_fields, setup_logging
from shared.telemetry.metrics import make_registry, serve_metrics
from shared.telemetry.tracing import Traces, open_traces

log = logging.getLogger(__name__)

OpenWorker = Callable[[Celery, CollectorRegistry], AbstractAsyncContextManager[Work]]


def run_worker(
    settings: TrainerSettings | ParitySettings,
    kind: str,
    open_worker: OpenWorker,
    *,
    queue: str,
    task: str,
    ids: Sequence[str],
    threads: int,
    patience: Patience | None = None,
) -> None:
    """Work on the messages of ``queue`` until the process has to stop; unfinished work is given back.

    ``kind`` names the service. ``open_worker`` makes what does the work, on the loop that runs it; ``ids`` names the
    arguments of a message, for logs and traces. ``patience`` is that of the watchdog over a worker that takes nothing.
    """
    setup_logging(f"{kind}-worker", settings)
    registry, traces = make_registry(), open_traces(f"{kind}-worker", settings)
    app = make_celery(settings, kind)
    stop_metrics = serve_metrics(registry, settings.host, settings.metrics_port)
    try:
        with WorkLoop(partial(open_worker, app, registry), threads) as loop, present(settings.redis_url, kind):
            workload = Workload(threads)
            register(app, task, ids, loop, traces, workload)

            def stop(**_: Any) -> None:
                loop.stop()

            worker_shutting_down.connect(stop, weak=False)
            log.info("Waiting for messages in the queue %s, %d at a time.", queue, threads)
            with watched(settings.redis_url, queue, workload, patience):
                _take_messages(app, queue, name=kind, threads=threads, log_level=settings.log_level)
    finally:
        stop_metrics()
        if traces is not None:
            traces.close()


def register(
    app: Celery,
    task: str,
    ids: Sequence[str],
    loop: WorkLoop,
    traces: Traces | None = None,
    workload: Workload | None = None,
) -> None:
    """Add the Celery task called ``task``, whose arguments are called ``ids``."""

    @app.task(name=task, bind=True, shared=False)  # type: ignore[untyped-decorator]
    def do(message: Task, *values: str | int, **_newer: object) -> None:
        named = dict(zip(ids, values, strict=True))
        attributes = {f"mpa.{name}": value for name, value in named.items()}
        span = traces.root(task, SpanKind.CONSUMER, trace_of(message), attributes) if traces else nullcontext()
        with log_fields(**named), workload.message() if workload else nullcontext():
            try:
                check_message(message.request.headers)
                with span:
                    loop.run(*values)
            except Stopping as stopping:
                raise Reject("the worker is stopping", requeue=True) from stopping
            except NewerSchema as error:
                log.warning("Left to a newer worker: %s", error.detail)


def _take_messages(app: Celery, queue: str, *, name: str, threads: int, log_level: str) -> None:
    sys.__stdout__ = None  # type: ignore[misc]  # Celery prints its farewell there, which would not be JSON
    app.worker_main(
        [
            "--quiet",
            "worker",
            "--pool=threads",
            f"--concurrency={threads}",
            f"--queues={queue}",
            f"--hostname={name}-{os.getpid()}@%h",
            f"--loglevel={log_level}",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ]
    )
