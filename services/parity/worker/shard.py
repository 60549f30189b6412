"""The work behind one message: take the shard's lease, keep it while collecting, publish, and move the job on."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from celery import Celery
from prometheus_client import CollectorRegistry
from redis.exceptions import RedisError

from services.parity.endpoints.candidate_student import POSTPONED, CandidateStudent, NoPlace
from services.parity.jobs.advance import settle
from services.parity.jobs.model_checks import UntrainableStudent
from services.parity.jobs.redo import Due, find_due
from services.parity.metrics import WorkerMetrics
from services.parity.mining.collector import Models, ShardCollector
from services.parity.mining.question_plan import RoundPlan
from services.parity.worker.job_inputs import JobInputs
from shared.concurrency import end_loops
from shared.errors import Damaged, LeaseLost, MPAError, NewerSchema, NotFound, StorageUnavailable
from shared.images import ImageLimits
from shared.images.files import ImageFiles
from shared.sets import read_shard, set_shard_aside, summarise, tally, write_shard
from shared.state import JobStore, Lease, ShardResult
from shared.state.keeping import keep_lease
from shared.store import Store
from shared.store.waiting import when_stored
from shared.vqa.tasks import TaskProfile

log = logging.getLogger(__name__)

REDIS_RETRY = 0.5


@dataclass(frozen=True)
class ShardWork:
    """Collects shards. ``lease`` is in seconds; ``candidate_student`` takes a job id and a version."""

    jobs: JobStore
    store: Store
    inputs: JobInputs
    profiles: Mapping[str, TaskProfile]
    models: Models
    candidate_student: Callable[[str, str], CandidateStudent]
    files: ImageFiles
    limits: ImageLimits
    celery: Celery
    owner: str
    lease: float
    shard_attempts: int
    train_attempts: int
    metrics: WorkerMetrics = field(default_factory=lambda: WorkerMetrics(CollectorRegistry()))
    traced_images: int = 50

    async def run(self, job_id: str, shard: int) -> None:
        """Collect the shard, unless it is done or another worker has it. A cancelled run gives its lease back."""
        try:
            lease = await self.jobs.shards.acquire(job_id, shard, self.owner, self.lease, self.shard_attempts)
        except NotFound:
            # Redis lost the record. The reconciler rebuilds it and sends a new message.
            log.info("No record of the job; leaving the shard.", extra={"job_id": job_id, "shard": shard})
            return
        except NewerSchema as error:
            # A newer worker takes it, because the reconciler sends the message again.
            log.warning("Left to a newer worker: %s", error.detail, extra={"job_id": job_id, "shard": shard})
            return
        except Damaged as error:
            # The reconciler rebuilds the record or quarantines the job.
            log.error("Left alone: %s", error.detail, extra={"job_id": job_id, "shard": shard})
            return
        if lease is None:
            log.debug("Nothing to do.", extra={"job_id": job_id, "shard": shard})
            return
        try:
            await self._work(lease)
            self.metrics.ended("done")
        except LeaseLost as lost:
            self.metrics.ended("lease_lost")
            log.info("Stopped: %s", lost.detail, extra={"job_id": job_id, "shard": shard})
        except NoPlace as error:
            self.metrics.ended("postponed")
            await self._postpone(lease, f"the student: {error.detail}")
        except StorageUnavailable as error:
            self.metrics.ended("postponed")
            await self._postpone(lease, error.waiting_for)
        except asyncio.CancelledError:
            self.metrics.ended("given_back")
            await self._give_back(lease)
            raise
        except Exception as error:
            self.metrics.ended("failed")
            await self._fail(lease, error)

    async def _work(self, lease: Lease) -> None:
        news = _News()

        async def renew() -> None:
            await self.jobs.shards.heartbeat(lease, self.lease, *news.now())

        async with keep_lease(lease, self.lease, renew, news.changed):
            due = await when_stored(partial(find_due, self.store, lease.job_id, lease.shard or 0), news.wait_for)
            published = await when_stored(partial(self._published, lease), news.wait_for) if due is None else None
            result = published or await self._collect(lease, news, due)
            await self._outlast_redis(partial(self.jobs.shards.complete, lease, result))
        log.info("Shard done: %s", result.verdicts, extra={"job_id": lease.job_id, "shard": lease.shard})
        await settle(self.jobs, self.store, self.celery, lease.job_id, self.lease, self.train_attempts)

    def _published(self, lease: Lease) -> ShardResult | None:
        """The result of a file that an earlier holder published before it could record that. Blocks.

        A damaged file is set aside, so that the shard is collected again.
        """
        assert lease.shard is not None
        try:
            return summarise(read_shard(self.store, lease.job_id, lease.shard))
        except NotFound:
            return None
        except Damaged as error:
            log.error("The shard is collected again: %s", error.detail)
            set_shard_aside(self.store, lease.job_id, lease.shard)
            return None

    async def _collect(self, lease: Lease, news: _News, due: Due | None) -> ShardResult:
        """All pairs of the shard, or those that are ``due`` again."""
        assert lease.shard is not None
        started = time.monotonic()
        job = await when_stored(partial(self.inputs.get, lease.job_id), news.wait_for)
        await when_stored(partial(self.inputs.check_student, lease.job_id), news.wait_for)
        plan = await when_stored(partial(self.inputs.plan, lease.job_id, lease.shard), news.wait_for)
        entries = await asyncio.to_thread(job.shard, lease.shard)
        async with self._models_of(lease.job_id, plan) as models:
            news.collector = ShardCollector(
                lease.job_id,
                lease.shard,
                job.spec,
                entries,
                models=models,
                profiles=self.profiles,
                files=self.files,
                limits=self.limits,
                plan=plan,
                again=due.again if due is not None else None,
                trace_every=trace_every(len(job.lines), self.traced_images),
                changed=news.changed,
            )
            rows = await news.collector.run()
        # The last look before the write: a worker that lost the lease publishes nothing.
        await self._outlast_redis(partial(self.jobs.shards.heartbeat, lease, self.lease, tally(rows)))
        write = (
            partial(write_shard, self.store, lease.job_id, lease.shard, rows)
            if due is None
            else partial(due.publish, self.store, rows)
        )
        result = await when_stored(write, news.wait_for)
        self.metrics.collected(rows, result, started)
        return result

    @asynccontextmanager
    async def _models_of(self, job_id: str, plan: RoundPlan) -> AsyncIterator[Models]:
        """The models that a round asks: from the second one on the student is the candidate of the round before."""
        if plan.last is None:
            yield self.models
            return
        assert plan.last.candidate is not None
        async with self.candidate_student(job_id, plan.last.candidate) as student:
            # Not for long: a wait during the collection shows up in the job's status, this one does not.
            await student.admitted(self.lease / 2)
            keeping = asyncio.create_task(student.keep())
            try:
                # What the active version can answer says nothing about the candidate.
                yield replace(self.models, student=student, student_health=None)
            finally:
                await end_loops({keeping})

    async def _outlast_redis(self, call: Callable[[], Awaitable[object]]) -> None:
        """Repeat a last step until Redis answers, for as long as a lease lasts: what the models said is not lost."""
        deadline = time.monotonic() + self.lease
        while True:
            try:
                await call()
                return
            except NotFound as error:
                raise LeaseLost(f"The lease was lost: {error.detail}") from error
            except (RedisError, OSError):
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(REDIS_RETRY)

    async def _give_back(self, lease: Lease) -> None:
        try:
            await self.jobs.shards.release(lease)
            log.info("Gave the shard back.", extra={"job_id": lease.job_id, "shard": lease.shard})
        except (MPAError, RedisError, OSError) as error:
            log.warning("Could not give the shard back; it becomes free when its lease expires: %s", error)

    async def _postpone(self, lease: Lease, waiting_for: str) -> None:
        try:
            await self.jobs.shards.postpone(lease, waiting_for, POSTPONED)
        except (MPAError, RedisError, OSError) as problem:
            log.warning("Could not postpone the shard; it becomes free when its lease expires: %s", problem)

    async def _fail(self, lease: Lease, error: Exception) -> None:
        words = in_words(error)
        where = {"job_id": lease.job_id, "shard": lease.shard}
        log.error("The shard failed (attempt %d): %s", lease.attempt, words, extra=where, exc_info=error)
        try:
            attempts = lease.attempt if isinstance(error, UntrainableStudent) else self.shard_attempts
            if await self.jobs.shards.fail(lease, words, attempts):
                message = f"Shard {lease.shard} failed {lease.attempt} times: {words}"
                await self.jobs.fail(lease.job_id, message)
        except (MPAError, RedisError, OSError) as problem:
            log.warning(
                "Could not record the failure; the shard becomes free when its lease expires: %s", problem, extra=where
            )


class _News:
    """What the heartbeat of one shard reports. ``changed`` is set when there is something new."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.collector: ShardCollector | None = None
        self._storage: str | None = None

    def wait_for(self, storage: str | None) -> None:
        """Report what the shard itself waits for; None: it continues."""
        if storage != self._storage:
            self._storage = storage
            self.changed.set()

    def now(self) -> tuple[ShardResult | None, str | None]:
        if self.collector is None:
            return None, self._storage
        return tally(self.collector.rows), self._storage or self.collector.waiting_for


def trace_every(images: int, traced: int) -> int:
    """N where every Nth image of a job is traced, so that at most ``traced`` images are; 0: none."""
    return -(-images // traced) if traced else 0


def in_words(error: BaseException) -> str:
    """What went wrong, for a user: the detail of our own errors, and the first error of a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error.detail if isinstance(error, MPAError) else f"{type(error).__name__}: {error}"
