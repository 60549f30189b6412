"""``python -m services.parity.worker``: a Celery worker for shards, in one process with a pool of threads.

Threads, because a shard waits for models most of the time, and because the prefork pool lost messages when Redis was
killed.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from celery import Celery
from celery.signals import worker_shutting_down
from prometheus_client import CollectorRegistry

from services.parity.endpoints.candidate_student import PrivateStudent
from services.parity.endpoints.limiter import Throttle
from services.parity.metrics import WorkerMetrics
from services.parity.mining.collector import Models
from services.parity.worker.job_inputs import JobInputs
from services.parity.worker.shard import ShardWork
from services.parity.worker.tasks import Runner, register
from shared.client import ChatClient, StudentClient
from shared.images import ImageLimits
from shared.images.files import ImageFiles
from shared.queue import COLLECT_QUEUE, make_celery, work_off
from shared.settings import ParitySettings, read_settings
from shared.state import JobStore
from shared.state.presence import present
from shared.store import Store
from shared.telemetry import setup_logging
from shared.telemetry.metrics import make_registry, serve_metrics
from shared.telemetry.tracing import Traces, open_traces
from shared.vqa.tasks import load_profiles

log = logging.getLogger(__name__)


def make_worker(
    settings: ParitySettings, registry: CollectorRegistry | None = None, traces: Traces | None = None
) -> tuple[Celery, Runner]:
    """The Celery app with its task, and what runs the shards."""
    metrics = WorkerMetrics(registry or CollectorRegistry())
    app = make_celery(settings, "parity")
    store = Store(settings.store_url, settings.data_dir / "cache")
    inputs, profiles = JobInputs(store), load_profiles(settings.tasks_file)
    limits = ImageLimits.from_settings(settings)
    owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
    files = image_files(settings, store)
    # A call is slow long before it times out, after which its work would have been for nothing.
    slow = settings.call_timeout.total_seconds() / 2
    teacher_calls, student_calls = (Throttle(name, settings.calls_in_flight, slow) for name in ("teacher", "student"))
    metrics.watch(teacher_calls)
    metrics.watch(student_calls)

    async def work(job_id: str, shard: int) -> None:
        async with _models(settings, teacher_calls, student_calls) as models, _jobs(settings) as jobs:
            await ShardWork(
                jobs=jobs,
                store=store,
                inputs=inputs,
                profiles=profiles,
                models=models,
                private_student=lambda job, version: private_student(settings, job, version),
                files=files,
                limits=limits,
                celery=app,
                owner=owner,
                lease=settings.lease.total_seconds(),
                shard_attempts=settings.shard_attempts,
                train_attempts=settings.train_attempts,
                metrics=metrics,
                traced_images=settings.trace_images,
            ).run(job_id, shard)

    runner = Runner(work)
    register(app, runner, traces)
    return app, runner


def private_student(settings: ParitySettings, job_id: str, version: str) -> PrivateStudent:
    """A client of one candidate, for one shard."""
    return PrivateStudent(
        settings.student_url,
        student=settings.student_name,
        version=version,
        job_id=job_id,
        api_key=settings.api_key.get_secret_value() if settings.api_key else None,
        timeout=settings.call_timeout.total_seconds(),
        calls=settings.calls_in_flight,
    )


def image_files(settings: ParitySettings, store: Store) -> ImageFiles:
    """Reads images as far as the settings allow."""
    return ImageFiles(
        store,
        roots=settings.image_roots,
        max_bytes=int(settings.max_image_bytes),
        allow_urls=settings.allow_image_urls,
        allow_private_urls=settings.allow_private_image_urls,
        timeout=settings.call_timeout.total_seconds(),
    )


@asynccontextmanager
async def _models(settings: ParitySettings, teacher_calls: Throttle, student_calls: Throttle) -> AsyncIterator[Models]:
    timeout, calls = settings.call_timeout.total_seconds(), settings.calls_in_flight
    teacher_key = settings.teacher_api_key or settings.api_key
    async with (
        ChatClient(
            settings.teacher_url,
            model=settings.teacher_name,
            api_key=teacher_key.get_secret_value() if teacher_key else None,
            timeout=timeout,
            max_connections=calls,
        ) as teacher,
        StudentClient(
            settings.student_url,
            model=settings.student_name,
            api_key=settings.api_key.get_secret_value() if settings.api_key else None,
            timeout=timeout,
            max_connections=calls,
        ) as student,
    ):
        yield Models(teacher, student, calls, teacher_calls=teacher_calls, student_calls=student_calls)


@asynccontextmanager
async def _jobs(settings: ParitySettings) -> AsyncIterator[JobStore]:
    jobs = JobStore.from_url(settings.redis_url)
    try:
        yield jobs
    finally:
        await jobs.aclose()


def main() -> None:
    settings = read_settings(ParitySettings, lambda found: load_profiles(found.tasks_file))
    setup_logging("parity-worker", settings)
    registry, traces = make_registry(), open_traces("parity-worker", settings)
    app, runner = make_worker(settings, registry, traces)
    stop_metrics = serve_metrics(registry, settings.host, settings.metrics_port)

    def stop(**_: Any) -> None:
        runner.stop()

    worker_shutting_down.connect(stop, weak=False)
    log.info("Collecting shards, %d at once.", settings.worker_concurrency)
    try:
        with present(settings.redis_url, "parity"):
            threads, level = settings.worker_concurrency, settings.log_level
            work_off(app, COLLECT_QUEUE, name="parity", threads=threads, log_level=level)
    finally:
        stop_metrics()
        if traces is not None:
            traces.close()


if __name__ == "__main__":
    main()
