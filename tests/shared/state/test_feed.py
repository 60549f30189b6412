"""Waiters of one process are woken by changes that others make, on a real Redis."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from shared.errors import NotFound
from shared.state import JobStore
from tests.polling import async_wait_until
from tests.shared.state.conftest import stored


async def test_a_waiter_is_woken_by_a_change(jobs: JobStore) -> None:
    await jobs.create(stored())
    version = await jobs.version("job-1")
    waiting = asyncio.create_task(jobs.wait_for_change("job-1", version, 30))
    await asyncio.sleep(0)
    await jobs.shards.acquire("job-1", 0, "w", 30, 5)
    async with asyncio.timeout(10):
        assert await waiting > version


async def test_a_waiter_gives_up_and_stops(jobs: JobStore) -> None:
    await jobs.create(stored())
    version = await jobs.version("job-1")
    assert await jobs.wait_for_change("job-1", version, 0.01) == version
    waiting = asyncio.create_task(jobs.wait_for_change("job-1", version, 600))
    await asyncio.sleep(0.05)
    await jobs.feed.stop()
    async with asyncio.timeout(10):
        assert await waiting == version


async def test_only_the_waiters_of_a_changed_job_are_woken(jobs: JobStore) -> None:
    for name in ("changed", "other"):
        await jobs.create(stored(name))
    versions = {name: await jobs.version(name) for name in ("changed", "other")}
    waiting = {name: asyncio.create_task(jobs.wait_for_change(name, versions[name], 600)) for name in versions}
    await asyncio.sleep(0)
    await jobs.fail("changed", "it broke")
    async with asyncio.timeout(10):
        assert await waiting["changed"] > versions["changed"]
    assert not waiting["other"].done()
    jobs.feed.wake_all()
    async with asyncio.timeout(10):
        assert await waiting["other"] == versions["other"]
    assert jobs.feed.stopped


async def test_waiters_of_one_job_are_all_woken_and_then_forgotten(jobs: JobStore) -> None:
    await jobs.create(stored())
    version = await jobs.version("job-1")
    waiting = [asyncio.create_task(jobs.wait_for_change("job-1", version, 600)) for _ in range(5)]
    await asyncio.sleep(0)
    await jobs.fail("job-1", "it broke")
    async with asyncio.timeout(10):
        assert {await one for one in waiting} == {version + 1}
    assert jobs.feed._waiters == {}


async def test_an_error_of_the_look_reaches_the_waiter(jobs: JobStore) -> None:
    with pytest.raises(NotFound, match="no job gone"):
        await jobs.wait_for_change("gone", 1, 600)
    assert jobs.feed._waiters == {}


async def test_a_change_is_seen_although_redis_dropped_the_subscription(jobs: JobStore, redis_url: str) -> None:
    await jobs.create(stored())
    version = await jobs.version("job-1")
    waiting = asyncio.create_task(jobs.wait_for_change("job-1", version, 600))
    async with Redis.from_url(redis_url) as admin:
        for _ in range(2):  # the subscription, and the one that replaces it
            await async_wait_until(lambda: _drop_subscriptions(admin))
    await jobs.fail("job-1", "it broke")
    async with asyncio.timeout(10):
        assert await waiting == version + 1


async def _drop_subscriptions(admin: Redis) -> int:
    """How many connections with a subscription were closed."""
    return int(await admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub"))
