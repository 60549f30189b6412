"""The objects that the API's routes use. Built when the app starts and closed when it ends."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from redis.exceptions import RedisError

from services.parity.endpoints.candidate_student import check_candidates
from services.parity.images.access import SourceRules
from services.parity.images.uploads import UploadLimits
from services.parity.jobs import decisions
from services.parity.jobs.model_checks import check_logprobs
from services.parity.jobs.rebuild import UNREADABLE, read_or_rebuild, unreadable_status
from services.parity.jobs.reconciler import Reconciler, ReconcilerRules
from services.parity.jobs.redo import shards_to_redo, write_redo
from services.parity.jobs.report import shown, withdraw_report
from services.parity.jobs.submission import Submitter
from services.parity.metrics import JobMetrics
from services.parity.mining.attention import check_probes
from shared.client import ChatClient, HttpClient, StudentClient
from shared.concurrency import end_loops
from shared.contracts import Health, JobList, JobSpec, JobStatus, Verdict
from shared.errors import Damaged, NewerSchema, NotFound
from shared.http import Lifespan
from shared.queue import make_celery
from shared.settings import ParitySettings
from shared.state import JobStore, redis_trouble
from shared.store import Store
from shared.vqa.tasks import TaskProfile, load_profiles

KEEP_ALIVE = 15.0
LOOK_AGAIN = 2.0
PROBE_SECONDS = 5.0


@dataclass(frozen=True)
class Components:
    """The service's objects, and the few calls that need two of them."""

    jobs: JobStore
    store: Store
    submitter: Submitter
    reconciler: Reconciler
    profiles: Mapping[str, TaskProfile]
    upload_limits: UploadLimits

    async def status(self, job_id: str) -> JobStatus:
        """Raises NotFound. A job that only Redis has lost or damaged is rebuilt at once."""
        try:
            return shown(await read_or_rebuild(self.jobs, self.store, job_id), self.store)
        except (Damaged, NewerSchema) as error:
            return unreadable_status(job_id, error)

    async def page(self, cursor: str | None, limit: int) -> JobList:
        """The jobs of a page, also those that cannot be read, with the reason."""
        ids, following = await self.jobs.page(cursor, limit)
        return JobList(jobs=[await self._listed(job_id) for job_id in ids], next_cursor=following)

    async def _listed(self, job_id: str) -> JobStatus:
        try:
            return await self.status(job_id)
        except NotFound:
            lost = (
                f"Neither Redis nor the artifact store has a record of job {job_id}: it was deleted, or both lost it."
            )
            return unreadable_status(job_id, NotFound(lost))

    @staticmethod
    def version_in(etag: str | None) -> int | None:
        """The version that a client knows, from its If-None-Match."""
        text = (etag or "").removeprefix("W/").strip('"')
        return int(text) if text.isdigit() else None

    async def cancel(self, job_id: str) -> None:
        try:
            await decisions.cancel(self.jobs, self.store, job_id)
        except (NotFound, Damaged):
            await read_or_rebuild(self.jobs, self.store, job_id)
            await decisions.cancel(self.jobs, self.store, job_id)
        self.reconciler.poke()

    async def retry(self, job_id: str, verdicts: Sequence[Verdict] = ()) -> None:
        """Restart a job. ``verdicts``: make only the pairs with these again.

        It is durable once this returns. Raises NotFound, Conflict and InvalidInput.
        """
        snapshot = await read_or_rebuild(self.jobs, self.store, job_id)
        again: list[int] = []
        if verdicts:
            again = shards_to_redo(snapshot, verdicts)
            await asyncio.to_thread(write_redo, self.store, snapshot, verdicts)
        await decisions.retry(self.jobs, self.store, snapshot, again)
        await withdraw_report(self.store, job_id)
        self.reconciler.poke(job_id)

    async def wait(self, status: JobStatus, seconds: float) -> int:
        """The version after a change, or the present one after ``seconds``; -1 if the record cannot be read now."""
        try:
            return await self.jobs.wait_for_change(status.id, status.version, seconds)
        except UNREADABLE:
            if status.version:
                return -1
            await asyncio.sleep(min(seconds, LOOK_AGAIN))
            return 0

    async def changes(self, status: JobStatus) -> AsyncIterator[JobStatus | None]:
        """``status``, then every newer one until the job is final or the service stops. None: no change so far."""
        yield status
        while not status.state.is_final and not self.jobs.feed.stopped:
            version = await self.wait(status, KEEP_ALIVE)
            if version == status.version:
                yield None
                continue
            status = await self.status(status.id)
            yield status


def lifespan(settings: ParitySettings) -> Lifespan:
    """Builds the components, runs the reconciler, and ends long polls and streams when the process has to stop."""

    @asynccontextmanager
    async def run(app: FastAPI) -> AsyncIterator[None]:
        components = build(settings, app.state.metrics_registry)
        app.state.components = components
        restore = _on_stop_signal(components.jobs.feed.wake_all)
        task = asyncio.create_task(components.reconciler.run())
        try:
            yield
        finally:
            restore()
            await end_loops({task})
            await components.jobs.aclose()

    return run


def build(settings: ParitySettings, metrics: CollectorRegistry) -> Components:
    """Opens no connection, because Redis may still be starting."""
    store = Store(settings.store_url, settings.data_dir / "cache")
    jobs = JobStore.from_url(settings.redis_url)
    profiles = load_profiles(settings.tasks_file)
    rules = SourceRules(settings.image_roots, settings.allow_image_urls, settings.max_images_per_job)
    seconds = settings.lease.total_seconds()
    return Components(
        jobs=jobs,
        store=store,
        submitter=Submitter(
            jobs,
            store,
            profiles,
            [settings.student_name],
            rules,
            lambda: _check_probes(settings),
            lambda: _check_logprobs(settings),
            lambda spec: _check_candidates(settings, spec),
        ),
        reconciler=Reconciler(
            jobs,
            store,
            make_celery(settings, "parity-api"),
            ReconcilerRules(
                every=settings.reconcile_every.total_seconds(),
                patience=seconds,
                shard_attempts=settings.shard_attempts,
                train_attempts=settings.train_attempts,
            ),
            JobMetrics(metrics),
        ),
        profiles=profiles,
        upload_limits=UploadLimits(
            int(settings.max_upload), int(settings.max_image_bytes), settings.max_images_per_job
        ),
    )


async def _check_probes(settings: ParitySettings) -> None:
    async with (
        HttpClient(settings.teacher_url, timeout=PROBE_SECONDS) as teacher,
        HttpClient(settings.student_url, timeout=PROBE_SECONDS) as student,
    ):
        await check_probes([("teacher", teacher), ("student", student)])


async def _check_logprobs(settings: ParitySettings) -> None:
    key = settings.teacher_api_key or settings.api_key
    async with ChatClient(
        settings.teacher_url,
        model=settings.teacher_name,
        api_key=key.get_secret_value() if key else None,
        timeout=PROBE_SECONDS,
    ) as teacher:
        await check_logprobs(teacher)


async def _check_candidates(settings: ParitySettings, spec: JobSpec) -> None:
    async with StudentClient(settings.student_url, model=settings.student_name, timeout=PROBE_SECONDS) as student:
        await check_candidates(student, spec)


async def ready(app: FastAPI) -> Health:
    """Ready when Redis takes writes."""
    components: Components = app.state.components
    try:
        await components.jobs.ping()
    except (RedisError, OSError) as error:
        return Health(service="parity", ready=False, reason=redis_trouble(error))
    return Health(service="parity", ready=True)


def _on_stop_signal(stop: Callable[[], None]) -> Callable[[], None]:
    """Also call ``stop`` at SIGTERM and SIGINT, before the server's own handler; returns what undoes that."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    loop = asyncio.get_running_loop()
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, frame: Any) -> None:
        loop.call_soon_threadsafe(stop)
        handler = previous[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in previous:
        signal.signal(number, handle)

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    return restore
