"""Compare-and-set on a job's hash: nobody overwrites what they did not read, on a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from shared.errors import NotFound, Unavailable
from shared.state.redis_hash import ACTIVE, CHANNEL, TRIES, Change, Fields, JobHash, job_key
from tests.polling import async_wait_until


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        await client.hset(job_key("j"), mapping={"spec": "{}", "count": "0"})
        yield client


def count_up(fields: Fields, _now: float) -> Change[int]:
    new = int(fields["count"] or 0) + 1
    return Change(new, {"count": str(new)})


async def test_concurrent_updates_are_all_counted(redis: Redis) -> None:
    jobs = JobHash(redis)
    results = await asyncio.gather(*(jobs.update("j", ["count"], count_up) for _ in range(20)))
    assert sorted(results) == list(range(1, 21))
    assert await redis.hget(job_key("j"), "version") == b"20"


async def test_a_change_in_between_starts_the_update_over(redis: Redis) -> None:
    jobs = JobHash(redis)
    seen: list[str | None] = []

    async def overtake() -> None:
        await redis.hset(job_key("j"), "count", "10")

    class Overtaken(JobHash):
        async def read(self, job_id: str, names: object) -> tuple[dict[str, str | None], float]:
            found = await jobs.read(job_id, ["count", "spec"])
            if not seen:
                await overtake()
            seen.append(found[0]["count"])
            return found

    assert await Overtaken(redis).update("j", ["count"], count_up) == 11
    assert seen == ["0", "10"]


async def test_a_field_that_appeared_meanwhile_is_not_overwritten(redis: Redis) -> None:
    jobs = JobHash(redis)
    values, now = await jobs.read("j", ["new"])
    assert values == {"new": None}
    await redis.hset(job_key("j"), "new", "theirs")
    assert not await jobs._try("j", values, Change(None, {"new": "ours"}), now)
    assert await redis.hget(job_key("j"), "new") == b"theirs"


async def test_an_update_that_never_gets_through_is_unavailable(redis: Redis) -> None:
    jobs, asked = JobHash(redis), 0

    class Hectic(JobHash):
        async def read(self, job_id: str, names: object) -> tuple[dict[str, str | None], float]:
            nonlocal asked
            asked += 1
            found = await jobs.read(job_id, ["count", "spec"])
            await redis.hincrby(job_key("j"), "count", 1)
            return found

    with pytest.raises(Unavailable, match="changing too fast") as refused:
        await Hectic(redis).update("j", ["count"], count_up)
    assert (asked, refused.value.retry_after) == (TRIES, 1.0)


async def test_a_visible_change_raises_the_version_and_is_published(redis: Redis) -> None:
    jobs = JobHash(redis, clock=lambda: 1_234.5)
    async with redis.pubsub() as channel:
        await channel.subscribe(CHANNEL)
        await jobs.update("j", ["count"], lambda f, n: Change(None, {"count": "1"}, visible=False))
        assert await redis.hmget(job_key("j"), "version", "updated") == [None, None]
        await jobs.update("j", ["count"], lambda f, n: Change(None, {"count": "2"}))
        assert await redis.hmget(job_key("j"), "version", "updated") == [b"1", b"1234.5"]
        message = await async_wait_until(lambda: channel.get_message(ignore_subscribe_messages=True))
        assert message["data"] == b"j 1"


async def test_a_change_of_nothing_writes_nothing(redis: Redis) -> None:
    before = await redis.hgetall(job_key("j"))
    assert await JobHash(redis).update("j", ["count"], lambda fields, now: Change(fields["count"])) == "0"
    assert await redis.hgetall(job_key("j")) == before


@pytest.mark.parametrize(("active", "members"), [(True, {b"j", b"k"}), (False, {b"k"}), (None, {b"k"})])
async def test_a_change_keeps_the_set_of_active_jobs(redis: Redis, active: bool | None, members: set[bytes]) -> None:
    await redis.sadd(ACTIVE, "k")
    if active is False:
        await redis.sadd(ACTIVE, "j")
    await JobHash(redis).update("j", [], lambda fields, now: Change(None, {"count": "1"}, active=active))
    assert await redis.smembers(ACTIVE) == members


async def test_an_unknown_job_is_not_created_by_accident(redis: Redis) -> None:
    jobs = JobHash(redis)
    with pytest.raises(NotFound, match="no job x"):
        await jobs.update("x", ["count"], count_up)
    assert await redis.exists(job_key("x")) == 0
    assert await jobs.update("x", ["count"], count_up, must_exist=False) == 1


async def test_times_come_from_the_redis_server(redis: Redis) -> None:
    jobs = JobHash(redis)
    seconds, _ = await redis.time()
    assert seconds <= await jobs.now() <= seconds + 60
    for _, now in (await jobs.read("j", ["count"]), await jobs.read_all("j")):
        assert seconds <= now <= seconds + 60
