"""The reconciler moves unfinished jobs on, whatever messages are lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from celery import Celery
from redis.asyncio import Redis

from services.parity.jobs.reconciler import WINDOW, Reconciler, ReconcilerRules
from services.parity.jobs.report import read_report
from shared.contracts import JobState
from shared.queue import COLLECT_QUEUE, TRAIN_QUEUE, make_celery, queue_depth
from shared.sets import write_shard
from shared.settings import ParitySettings
from shared.state import JobStore, ShardResult
from shared.store import Store
from tests.polling import async_wait_until
from tests.shared.state.conftest import collect_all, stored

RULES = ReconcilerRules(every=600, patience=600, shard_attempts=2, train_attempts=2)
Build = Callable[..., Reconciler]


@pytest.fixture
def celery(settings: ParitySettings) -> Celery:
    return make_celery(settings)


@pytest.fixture
def reconciler(jobs: JobStore, store: Store, celery: Celery) -> Reconciler:
    return Reconciler(jobs, store, celery, RULES)


async def test_every_shard_gets_one_message(jobs: JobStore, reconciler: Reconciler, celery: Celery) -> None:
    await jobs.create(stored(images=20))
    for _ in range(3):
        await reconciler.round()
    assert queue_depth(celery, COLLECT_QUEUE) == 5


async def test_lost_messages_are_sent_again(jobs: JobStore, store: Store, celery: Celery, redis_url: str) -> None:
    impatient = Reconciler(jobs, store, celery, ReconcilerRules(600, 0, 2, 2))
    await jobs.create(stored(images=20))
    await impatient.round()
    async with Redis.from_url(redis_url) as redis:
        await redis.delete(COLLECT_QUEUE)
    assert queue_depth(celery, COLLECT_QUEUE) == 0
    await impatient.round()
    assert queue_depth(celery, COLLECT_QUEUE) == 5


async def test_a_large_job_does_not_fill_the_queue(jobs: JobStore, reconciler: Reconciler, celery: Celery) -> None:
    await jobs.create(stored("large", images=2 * WINDOW, shard_size=1))
    await jobs.create(stored("small", images=2, shard_size=1))
    await reconciler.round()
    assert queue_depth(celery, COLLECT_QUEUE) == WINDOW


async def test_a_job_whose_shards_are_done_goes_to_the_trainer(
    jobs: JobStore, store: Store, reconciler: Reconciler, celery: Celery
) -> None:
    await jobs.create(stored())
    for shard in range(3):
        write_shard(store, "job-1", shard, [])
    await collect_all(jobs)
    await reconciler.round()
    assert (await jobs.get("job-1")).state is JobState.TRAINING
    assert queue_depth(celery, TRAIN_QUEUE) == 1
    await reconciler.round()
    assert queue_depth(celery, TRAIN_QUEUE) == 1


async def test_a_shard_that_failed_too_often_fails_the_job_which_is_then_reported(
    jobs: JobStore, store: Store, reconciler: Reconciler
) -> None:
    await jobs.create(stored())
    for _ in range(RULES.shard_attempts):
        lease = await jobs.shards.acquire("job-1", 1, "w", 30, RULES.shard_attempts)
        assert lease is not None
        await jobs.shards.fail(lease, "the disk is full", RULES.shard_attempts)
    await reconciler.round()
    status = await jobs.get("job-1")
    assert status.state is JobState.FAILED
    assert status.last_error == "Shard 1 failed 2 times. the disk is full"
    await reconciler.round()
    assert read_report(store, "job-1") is not None
    assert await jobs.active() == []


async def test_a_poke_starts_a_round_at_once(jobs: JobStore, reconciler: Reconciler, celery: Celery) -> None:
    running = asyncio.create_task(reconciler.run())
    try:
        await jobs.create(stored(images=4))

        async def sent() -> bool:
            reconciler.poke()
            return await asyncio.to_thread(queue_depth, celery, COLLECT_QUEUE) == 1

        await async_wait_until(sent)
    finally:
        running.cancel()


async def test_a_finished_shard_of_an_unfinished_job_is_not_sent_again(
    jobs: JobStore, reconciler: Reconciler, celery: Celery
) -> None:
    await jobs.create(stored())
    lease = await jobs.shards.acquire("job-1", 0, "w", 30, 2)
    assert lease is not None
    await jobs.shards.complete(lease, ShardResult(images=4))
    await reconciler.round()
    assert queue_depth(celery, COLLECT_QUEUE) == 2
