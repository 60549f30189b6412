"""One message from the queue: take the shard's lease, collect under its heartbeat, publish, and move the job on."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

from celery import Celery
from prometheus_client import CollectorRegistry
from redis.exceptions import RedisError

from services.parity.endpoints.candidate_student import POSTPONED, NoPlace, PrivateStudent
from services.parity.jobs.advance import settle
from services.parity.metrics import WorkerMetrics
from services.parity.mining.collector import Models, ShardCollector
from services.parity.mining.question_plan import RoundPlan
from services.parity.worker.job_inputs import JobInputs
from shared.errors import LeaseLost, MPAError, NewerSchema, NotFound
from shared.images import ImageLimits
from shared.images.files import ImageFiles
from shared.sets import Row, read_shard, shard_key, summarise, tally, write_shard
from shared.state import JobStore, Lease, ShardResult
from shared.store import Store
from shared.vqa.tasks import TaskProfile

log = logging.getLogger(__name__)

TELL_EVERY = 1.0
REDIS_RETRY = 0.5


@dataclass(frozen=True)
class ShardWork:
    """Everything that shards are worked on with. ``lease`` in seconds; ``private_student`` of (job id, version)."""

    jobs: JobStore
    store: Store
    inputs: JobInputs
    profiles: Mapping[str, TaskProfile]
    models: Models
    private_student: Callable[[str, str], PrivateStudent]
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
        """Do what the message hints at, if it is (still) to be done. A cancelled run gives its lease back."""
        try:
            lease = await self.jobs.shards.acquire(job_id, shard, self.owner, self.lease, self.shard_attempts)
        except NotFound:
            # Redis lost the record: the reconciler rebuilds it and sends a new message.
            log.info("No record of the job; leaving the shard.", extra={"job_id": job_id, "shard": shard})
            return
        except NewerSchema as error:
            # A newer worker takes it: the reconciler sends its message again.
            log.warning("Left to a newer worker: %s", error.detail, extra={"job_id": job_id, "shard": shard})
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
            await self._postpone(lease, error)
        except asyncio.CancelledError:
            self.metrics.ended("given_back")
            await self._give_back(lease)
            raise
        except Exception as error:
            self.metrics.ended("failed")
            await self._fail(lease, error)

    async def _work(self, lease: Lease) -> None:
        result = await self._finished(lease) or await self._collect(lease)
        await self._until_redis_answers(lease, result)
        log.info("Shard done: %s", result.verdicts, extra={"job_id": lease.job_id, "shard": lease.shard})
        await settle(self.jobs, self.store, self.celery, lease.job_id, self.lease, self.train_attempts)

    async def _finished(self, lease: Lease) -> ShardResult | None:
        """The result of a file that an earlier holder published without living to say so."""
        assert lease.shard is not None
        if not await asyncio.to_thread(self.store.exists, shard_key(lease.job_id, lease.shard)):
            return None
        return summarise(await asyncio.to_thread(read_shard, self.store, lease.job_id, lease.shard))

    async def _collect(self, lease: Lease) -> ShardResult:
        assert lease.shard is not None
        started = time.monotonic()
        job = await asyncio.to_thread(self.inputs.get, lease.job_id)
        plan = await asyncio.to_thread(self.inputs.plan, lease.job_id, lease.shard)
        async with self._models_of(lease.job_id, plan) as models:
            collector = ShardCollector(
                lease.job_id,
                lease.shard,
                job.spec,
                job.shard(lease.shard),
                models=models,
                profiles=self.profiles,
                files=self.files,
                limits=self.limits,
                plan=plan,
                trace_every=trace_every(len(job.lines), self.traced_images),
            )
            rows = await self._collected(lease, collector)
        # The last look before the write: whoever lost the lease publishes nothing.
        await self.jobs.shards.heartbeat(lease, self.lease, tally(rows))
        result = await asyncio.to_thread(write_shard, self.store, lease.job_id, lease.shard, rows)
        self.metrics.collected(rows, result, started)
        return result

    @asynccontextmanager
    async def _models_of(self, job_id: str, plan: RoundPlan) -> AsyncIterator[Models]:
        """The models that a round asks: from the second one on the student is the candidate of the round before."""
        if plan.last is None:
            yield self.models
            return
        assert plan.last.candidate is not None
        async with self.private_student(job_id, plan.last.candidate) as student:
            await student.admitted(self.lease / 2)  # nobody renews the lease yet
            keeping = asyncio.create_task(student.keep())
            try:
                yield replace(self.models, student=student)
            finally:
                keeping.cancel()
                await asyncio.gather(keeping, return_exceptions=True)

    async def _collected(self, lease: Lease, collector: ShardCollector) -> list[Row]:
        """The shard's rows, under its heartbeat."""
        over = asyncio.Event()
        heartbeat = asyncio.create_task(self._heartbeat(lease, collector, over))
        collecting = asyncio.create_task(collector.run())
        try:
            await asyncio.wait({heartbeat, collecting}, return_when=asyncio.FIRST_COMPLETED)
            if heartbeat.done():
                heartbeat.result()
            return await collecting
        finally:
            over.set()
            for task in (heartbeat, collecting):
                task.cancel()
            await asyncio.gather(heartbeat, collecting, return_exceptions=True)

    async def _heartbeat(self, lease: Lease, collector: ShardCollector, over: asyncio.Event) -> None:
        """Renew well before the lease ends, and tell progress at most every second. Ends by LeaseLost or ``over``.

        ``over`` makes sure of that even where a library on the way swallows the cancellation.
        """
        told, renewed = None, time.monotonic()
        while not over.is_set():
            with suppress(TimeoutError):
                # Not wait_for: until Python 3.12 it swallows a cancellation that comes together with the event.
                async with asyncio.timeout(self.lease / 4):
                    await collector.changed.wait()
            collector.changed.clear()
            news = (tally(collector.rows), collector.waiting_for)
            try:
                if news != told or time.monotonic() - renewed >= self.lease / 4:
                    await self.jobs.shards.heartbeat(lease, self.lease, *news)
                    told, renewed = news, time.monotonic()
            except (RedisError, OSError) as error:
                if time.monotonic() - renewed > self.lease:
                    raise LeaseLost(f"Redis is away for longer than the lease: {error}.") from error
            await asyncio.sleep(min(TELL_EVERY, self.lease / 4))

    async def _until_redis_answers(self, lease: Lease, result: ShardResult) -> None:
        """The file is published, so the record follows as soon as Redis lets it."""
        deadline = time.monotonic() + self.lease
        while True:
            try:
                await self.jobs.shards.complete(lease, result)
                return
            except (RedisError, OSError):
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(REDIS_RETRY)

    async def _give_back(self, lease: Lease) -> None:
        try:
            await self.jobs.shards.release(lease)
            log.info("Gave the shard back.", extra={"job_id": lease.job_id, "shard": lease.shard})
        except (MPAError, RedisError, OSError) as error:
            log.warning("Could not give the shard back; it is free when its lease ends: %s", error)

    async def _postpone(self, lease: Lease, error: NoPlace) -> None:
        try:
            await self.jobs.shards.postpone(lease, f"the student: {error.detail}", POSTPONED)
        except (MPAError, RedisError, OSError) as problem:
            log.warning("Could not postpone the shard; it is free when its lease ends: %s", problem)

    async def _fail(self, lease: Lease, error: Exception) -> None:
        words = in_words(error)
        where = {"job_id": lease.job_id, "shard": lease.shard}
        log.error("The shard failed (attempt %d): %s", lease.attempt, words, extra=where, exc_info=error)
        try:
            if await self.jobs.shards.fail(lease, words, self.shard_attempts):
                message = f"Shard {lease.shard} failed {lease.attempt} times: {words}"
                await self.jobs.fail(lease.job_id, message)
        except (MPAError, RedisError, OSError) as problem:
            log.warning("Could not record the failure; the shard is free when its lease ends: %s", problem, extra=where)


def trace_every(images: int, traced: int) -> int:
    """Every how many images one is traced, so that no more than ``traced`` of a job's are; 0: none."""
    return -(-images // traced) if traced else 0


def in_words(error: BaseException) -> str:
    """What went wrong, for a user: our own errors speak for themselves, of a group the first one is told."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error.detail if isinstance(error, MPAError) else f"{type(error).__name__}: {error}"
