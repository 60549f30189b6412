"""``python -m services.parity.worker``: a worker that collects shards, several at a time in one process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial

from celery import Celery
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from services.parity.endpoints.candidate_student import CandidateStudent
from services.parity.endpoints.evidence import Health
from services.parity.endpoints.limiter import Limiter
from services.parity.metrics import WorkerMetrics
from services.parity.mining.collector import Models
from services.parity.worker.job_inputs import JobInputs
from services.parity.worker.shard import ShardWork
from shared.client import ChatClient, StudentClient
from shared.images import ImageLimits
from shared.images.files import ImageFiles
from shared.processes.names import process_name
from shared.queue import COLLECT_QUEUE, COLLECT_TASK
from shared.queue.work_loop import Work
from shared.queue.worker import run_worker
from shared.settings import ParitySettings, read_settings
from shared.state import JobStore
from shared.store import Store
from shared.vqa.tasks import load_profiles


@asynccontextmanager
async def open_worker(settings: ParitySettings, celery: Celery, registry: CollectorRegistry) -> AsyncIterator[Work]:
    """Yields the function that collects a shard. All shards share the models' clients and limits and the job store."""
    metrics = WorkerMetrics(registry)
    store = Store(settings.store_url, settings.data_dir / "cache")
    async with open_models(settings, metrics) as models, aclosing(JobStore.from_url(settings.redis_url)) as jobs:
        yield ShardWork(
            jobs=jobs,
            store=store,
            inputs=JobInputs(store),
            profiles=load_profiles(settings.tasks_file),
            models=models,
            candidate_student=partial(candidate_student, settings),
            files=image_files(settings, store),
            limits=ImageLimits.from_settings(settings),
            celery=celery,
            owner=process_name(),
            lease=settings.lease.total_seconds(),
            shard_attempts=settings.shard_attempts,
            train_attempts=settings.train_attempts,
            metrics=metrics,
            traced_images=settings.trace_images,
        ).run


@asynccontextmanager
async def open_models(settings: ParitySettings, metrics: WorkerMetrics) -> AsyncIterator[Models]:
    """The teacher and the student, each with a limit of calls that ``metrics`` shows."""
    timeout, calls = settings.call_timeout.total_seconds(), settings.calls_in_flight
    # A call is slow long before it times out, because a call that times out was wasted work.
    teacher_calls, student_calls = (Limiter(name, calls, timeout / 2) for name in ("teacher", "student"))
    metrics.watch(teacher_calls)
    metrics.watch(student_calls)
    async with (
        ChatClient(
            settings.teacher_url,
            model=settings.teacher_name,
            api_key=_revealed(settings.teacher_api_key or settings.api_key),
            timeout=timeout,
            max_connections=calls,
        ) as teacher,
        StudentClient(
            settings.student_url,
            model=settings.student_name,
            api_key=_revealed(settings.api_key),
            timeout=timeout,
            max_connections=calls,
        ) as student,
    ):
        yield Models(
            teacher,
            student,
            calls,
            teacher_calls=teacher_calls,
            student_calls=student_calls,
            teacher_health=Health(),
            student_health=Health(),
            reasoning_tokens=settings.teacher_reasoning_tokens,
            student_reasoning_tokens=settings.student_reasoning_tokens,
        )


def candidate_student(settings: ParitySettings, job_id: str, version: str) -> CandidateStudent:
    """A client of one candidate, for one shard."""
    return CandidateStudent(
        settings.student_url,
        student=settings.student_name,
        version=version,
        job_id=job_id,
        api_key=_revealed(settings.api_key),
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


def _revealed(key: SecretStr | None) -> str | None:
    return key.get_secret_value() if key else None


def main() -> None:
    settings = read_settings(ParitySettings, lambda found: load_profiles(found.tasks_file))
    run_worker(
        settings,
        "parity",
        partial(open_worker, settings),
        queue=COLLECT_QUEUE,
        task=COLLECT_TASK,
        ids=("job_id", "shard"),
        threads=settings.worker_concurrency,
    )


if __name__ == "__main__":
    main()
