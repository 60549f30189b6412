"""Keeps unfinished jobs moving, whatever messages are lost. Several may run, because each step is a guarded claim."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import redis.exceptions
from celery import Celery
from kombu.exceptions import OperationalError
from prometheus_client import CollectorRegistry
from redis.exceptions import RedisError

from services.parity.endpoints.candidate_student import free_candidate
from services.parity.jobs.advance import send_training, settle
from services.parity.jobs.rebuild import UNREADABLE, read_or_rebuild, rebuild_all
from services.parity.jobs.report import publish_report
from services.parity.metrics import JobMetrics
from shared.errors import MPAError
from shared.queue import (
    COLLECT_QUEUE,
    TRAIN_QUEUE,
    enqueue_shard,
    oldest_message_age,
    queue_depth,
    set_aside_damaged,
)
from shared.state import COLLECT_STATES, TRAIN_STATES, JobStore, Snapshot, WorkStatus, shards_done
from shared.store import Store

log = logging.getLogger(__name__)

# Limit of messages in the queue: enough to keep many workers busy until the next round, and fair between jobs.
WINDOW = 256
REBUILD_EVERY = 12
EVERYBODYS = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OperationalError)
"""Errors of the broker and of Redis, which no job can get around."""


@dataclass(frozen=True)
class ReconcilerRules:
    """``every``: seconds between rounds. ``patience``: seconds after which a message that nobody took is sent again."""

    every: float
    patience: float
    shard_attempts: int
    train_attempts: int


class Reconciler:
    """A round looks at all unfinished jobs. ``run`` repeats rounds until it is cancelled; ``poke`` starts one now.

    ``unreadable``: the jobs that the last round could not read, and why.
    """

    def __init__(
        self, jobs: JobStore, store: Store, celery: Celery, rules: ReconcilerRules, metrics: JobMetrics | None = None
    ) -> None:
        self._metrics = metrics or JobMetrics(CollectorRegistry())
        self._jobs, self._store, self._celery, self._rules = jobs, store, celery, rules
        self._poked = asyncio.Event()
        self._known: set[str] = set()
        self._settled: set[str] = set()
        self.unreadable: dict[str, str] = {}
        self._rounds = 0

    def poke(self, job_id: str | None = None) -> None:
        """Start a round now. ``job_id``: a job that is perhaps active again."""
        self._settled.discard(job_id or "")
        self._poked.set()

    async def run(self) -> None:
        while True:
            try:
                with self._metrics.round():
                    await self.round()
            except (MPAError, RedisError, OperationalError, OSError) as error:
                log.warning("A reconciler round failed; the next one tries again: %s", error)
            except Exception:
                log.exception("A reconciler round failed; the next one tries again.")
            with suppress(TimeoutError):
                async with asyncio.timeout(self._rules.every):
                    await self._poked.wait()
            self._poked.clear()

    async def round(self) -> None:
        """Look at every unfinished job once."""
        await self._rebuild_lost()
        snapshots = await self._read_active()
        self._metrics.saw(snapshots)
        collect_depth = await self._look_at(COLLECT_QUEUE)
        train_depth = await self._look_at(TRAIN_QUEUE)
        expected = sum(_queued_shards(snapshot) for snapshot in snapshots)
        trainings = sum(s.state in TRAIN_STATES and s.training.queued for s in snapshots)
        budget = WINDOW - collect_depth
        for snapshot in snapshots:
            with suppress(*UNREADABLE), self._alone(snapshot.stored.job_id):
                budget -= await self._collecting(snapshot, budget, collect_depth < expected)
                await self._beyond(snapshot, train_depth < trainings)

    async def _read_active(self) -> list[Snapshot]:
        """The unfinished jobs. One that cannot be read is quarantined: it waits until somebody has mended it."""
        found, unreadable = [], {}
        for job_id in await self._jobs.active():
            try:
                with self._alone(job_id):
                    found.append(await read_or_rebuild(self._jobs, self._store, job_id))
            except UNREADABLE as error:
                unreadable[job_id] = error.detail
                if self.unreadable.get(job_id) != error.detail:
                    log.error("The job is quarantined: %s", error.detail, extra={"job_id": job_id})
        self.unreadable = unreadable
        self._metrics.unreadable(len(unreadable))
        self._settled.difference_update(snapshot.stored.job_id for snapshot in found)
        return found

    @contextmanager
    def _alone(self, job_id: str) -> Iterator[None]:
        """Whatever goes wrong with one job does not stop the others, unless it concerns them all."""
        try:
            yield
        except (*EVERYBODYS, *UNREADABLE):
            raise
        except MPAError as error:
            log.warning("The reconciler could not move the job on: %s", error.detail, extra={"job_id": job_id})
        except Exception:
            log.exception("The reconciler could not move the job on.", extra={"job_id": job_id})

    async def _look_at(self, queue: str) -> int:
        """The queue's depth, which also goes into the metrics. A damaged queue is set aside first."""
        for key in await asyncio.to_thread(set_aside_damaged, self._celery, queue):
            log.error("The key %s of the queue had the wrong type; it is now mpa:damaged:%s.", key, key)
        depth = await asyncio.to_thread(queue_depth, self._celery, queue)
        age = await asyncio.to_thread(oldest_message_age, self._celery, queue) if depth else 0.0
        self._metrics.queue(queue, depth, age)
        return depth

    async def _rebuild_lost(self) -> None:
        known = await self._jobs.known()
        if self._rounds % REBUILD_EVERY == 0 or not self._known <= known:
            await rebuild_all(self._jobs, self._store)
            known = await self._jobs.known()
        self._known = known
        self._rounds += 1
        # A job that is neither active nor known to be over got lost from the active ones.
        for job_id in sorted(known - self._settled - set(await self._jobs.active())):
            if not await self._jobs.reactivate(job_id):
                self._settled.add(job_id)
            else:
                log.warning("The job was not among the active ones.", extra={"job_id": job_id})

    async def _collecting(self, snapshot: Snapshot, budget: int, queue_is_short: bool) -> int:
        """Send the messages that are due, at most ``budget``. Returns how many were sent."""
        job_id, rules = snapshot.stored.job_id, self._rules
        if snapshot.state not in COLLECT_STATES:
            return 0
        failed = next((i for i, shard in snapshot.shards.items() if shard.status is WorkStatus.FAILED), None)
        if failed is not None:
            shard = snapshot.shards[failed]
            await self._jobs.fail(job_id, f"Shard {failed} failed {shard.attempts} times. {shard.error or ''}".strip())
            return 0
        if shards_done(snapshot):
            await settle(self._jobs, self._store, self._celery, job_id, rules.patience, rules.train_attempts)
            return 0
        shards = snapshot.round_shards().items()
        due = [index for index, shard in shards if shard.is_due(snapshot.now, queue_is_short)][: max(0, budget)]
        if not due:
            return 0
        claimed = await self._jobs.shards.claim_due(job_id, due, rules.patience, queue_is_short, rules.shard_attempts)
        self._metrics.expired("shard", sum(snapshot.shard(i).status is WorkStatus.LEASED for i in claimed))
        for shard_index in claimed:
            await asyncio.to_thread(enqueue_shard, self._celery, job_id, shard_index, snapshot.trace)
        return len(claimed)

    async def _beyond(self, snapshot: Snapshot, queue_is_short: bool) -> None:
        job_id, rules = snapshot.stored.job_id, self._rules
        if snapshot.state in TRAIN_STATES:
            attempts = rules.train_attempts
            patience, trace = rules.patience, snapshot.trace
            sent = await send_training(self._jobs, self._celery, job_id, patience, attempts, queue_is_short, trace)
            self._metrics.expired("training", sent and snapshot.training.status is WorkStatus.LEASED)
        elif snapshot.state.is_final:
            if snapshot.info.round > 1:
                await asyncio.to_thread(free_candidate, self._store, snapshot.stored.spec.student, job_id)
            if await publish_report(self._jobs, self._store, job_id):
                self._metrics.finished(snapshot)


def _queued_shards(snapshot: Snapshot) -> int:
    """How many shards of a job should have a message in the queue."""
    if snapshot.state not in COLLECT_STATES:
        return 0
    return sum(shard.status is WorkStatus.PENDING and shard.queued for shard in snapshot.shards.values())
