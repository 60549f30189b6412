"""A lease is renewed as long as its work lasts; work that lost its lease ends. On a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.contracts import JobState
from shared.errors import LeaseLost
from shared.state import JobStore, Lease, ShardResult
from shared.state.keeping import keep_lease
from tests.polling import async_wait_until
from tests.shared.state.conftest import stored

FOREVER = 3600.0


@pytest.fixture
async def jobs(redis_url: str) -> AsyncIterator[JobStore]:
    """With the clock of Redis."""
    store = JobStore.from_url(redis_url)
    await store.create(stored())
    yield store
    await store.aclose()


async def taken(jobs: JobStore, ttl: float) -> Lease:
    lease = await jobs.shards.acquire("job-1", 0, "me", ttl, 3)
    assert lease is not None
    return lease


async def test_a_lease_outlasts_its_time_and_news_is_told(jobs: JobStore) -> None:
    lease, changed, news = await taken(jobs, 0.4), asyncio.Event(), [ShardResult(), ShardResult(images=3)]

    async def renew() -> None:
        await jobs.shards.heartbeat(lease, 0.4, news[-1])

    async def passed() -> bool:
        snapshot = await jobs.snapshot("job-1")
        shard = snapshot.shard(0)
        assert shard.held(snapshot.now), "the lease expired"
        return snapshot.now > lease.expires + 0.4 and shard.progress == news[-1]

    async with asyncio.timeout(20), keep_lease(lease, 0.4, renew, changed):
        await async_wait_until(passed)
        news.append(ShardResult(images=4))
        changed.set()
        await async_wait_until(passed)


async def test_work_that_lost_its_lease_ends(jobs: JobStore) -> None:
    lease = await taken(jobs, 0.4)

    async def work() -> None:
        async with keep_lease(lease, 0.4, lambda: jobs.shards.heartbeat(lease, 0.4)):
            await jobs.cancel("job-1")
            await asyncio.sleep(FOREVER)

    async with asyncio.timeout(20):
        with pytest.raises(LeaseLost, match="cancelled"):
            await work()
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
    assert (await jobs.get("job-1")).state is JobState.CANCELLED


async def test_a_lost_record_is_a_lost_lease(jobs: JobStore, redis_url: str) -> None:
    lease = await taken(jobs, 0.4)

    async def work() -> None:
        async with (
            Redis.from_url(redis_url) as redis,
            keep_lease(lease, 0.4, lambda: jobs.shards.heartbeat(lease, 0.4)),
        ):
            await redis.flushall()
            await asyncio.sleep(FOREVER)

    async with asyncio.timeout(20):
        with pytest.raises(LeaseLost, match="no job job-1"):
            await work()


async def test_a_redis_that_is_away_for_too_long_loses_the_lease(jobs: JobStore, free_port: int) -> None:
    lease, away = await taken(jobs, 0.5), JobStore.from_url(f"redis://127.0.0.1:{free_port}/0")
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(20):
        with pytest.raises(LeaseLost, match="Redis cannot be reached"):
            async with keep_lease(lease, 0.5, lambda: away.shards.heartbeat(lease, 0.5)):
                await asyncio.sleep(FOREVER)
    assert loop.time() - began >= 0.5
    await away.aclose()


async def test_a_redis_that_never_answers_loses_the_lease_in_time(jobs: JobStore) -> None:
    lease = await taken(jobs, 0.3)
    async with asyncio.timeout(20):
        with pytest.raises(LeaseLost, match="Redis cannot be reached"):
            async with keep_lease(lease, 0.3, lambda: asyncio.sleep(FOREVER)):
                await asyncio.sleep(FOREVER)


async def test_short_outages_are_outlasted(jobs: JobStore) -> None:
    lease, calls = await taken(jobs, 0.6), 0

    async def renew() -> None:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise RedisError("away")
        await jobs.shards.heartbeat(lease, 0.6)

    async with asyncio.timeout(20), keep_lease(lease, 0.6, renew):
        await async_wait_until(lambda: _is(calls >= 8))
    assert (await jobs.snapshot("job-1")).shard(0).token == lease.token


async def test_finishing_ends_the_renewals_even_one_that_is_under_way(jobs: JobStore) -> None:
    lease, under_way, finished = await taken(jobs, 0.4), asyncio.Event(), asyncio.Event()

    async def renew() -> None:
        under_way.set()
        await finished.wait()
        await jobs.shards.heartbeat(lease, 0.4)

    async with keep_lease(lease, 5.0, renew):
        await under_way.wait()
        await jobs.shards.complete(lease, ShardResult(images=4))
        finished.set()
        for _ in range(20):  # the renewal comes too late, and that is no loss
            await jobs.get("job-1")
    assert (await jobs.get("job-1")).shards.done == 1


async def test_work_that_swallows_a_cancellation_is_cancelled_again(
    jobs: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.state.keeping.CANCEL_AGAIN", 0.05)
    lease, swallowed = await taken(jobs, 0.2), 0

    async def work() -> None:
        nonlocal swallowed
        async with keep_lease(lease, 0.2, lambda: jobs.shards.heartbeat(lease, 0.2)):
            await jobs.cancel("job-1")
            while True:
                try:
                    await asyncio.sleep(FOREVER)
                except asyncio.CancelledError:
                    swallowed += 1
                    if swallowed == 3:
                        raise

    async with asyncio.timeout(20):
        with pytest.raises(LeaseLost):
            await work()
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


async def test_a_cancellation_from_outside_stays_one(jobs: JobStore) -> None:
    lease, inside = await taken(jobs, 5.0), asyncio.Event()

    async def work() -> None:
        async with keep_lease(lease, 5.0, lambda: jobs.shards.heartbeat(lease, 5.0)):
            inside.set()
            await asyncio.sleep(FOREVER)

    working = asyncio.create_task(work())
    await inside.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_errors_of_the_work_pass_and_a_broken_renewal_ends_it(jobs: JobStore) -> None:
    lease = await taken(jobs, 5.0)
    with pytest.raises(ZeroDivisionError, match="work"):
        async with keep_lease(lease, 5.0, lambda: jobs.shards.heartbeat(lease, 5.0)):
            raise ZeroDivisionError("work")

    async def broken() -> None:
        raise ZeroDivisionError("renewal")

    with pytest.raises(ZeroDivisionError, match="renewal"):
        async with keep_lease(lease, 5.0, broken):
            await asyncio.sleep(FOREVER)


async def _is(value: bool) -> bool:
    return value
