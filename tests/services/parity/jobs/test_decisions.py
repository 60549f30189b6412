"""What was acknowledged survives the loss of Redis: a cancel stays, a retry goes on, in any order of calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis.strategies as st
import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import settings as rules
from prometheus_client import CollectorRegistry

from services.parity.components import Components, build
from services.parity.jobs.decisions import read_decisions
from shared.contracts import JobState, Outcome
from shared.errors import Conflict, LeaseLost
from shared.settings import ParitySettings
from shared.state import JobStore, ShardResult
from shared.store import Store
from tests.services.parity.jobs.small_jobs import SHARDS, collect, collect_what_is_left, submit


@pytest.fixture
async def parity(tmp_path: Path, redis_url: str, tmp_store_url: str) -> AsyncIterator[Components]:
    settings = ParitySettings(data_dir=tmp_path / "data", store=tmp_store_url, redis_url=redis_url)
    components = build(settings, CollectorRegistry())
    yield components
    await components.jobs.aclose()


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as found:
        yield found


async def state(parity: Components) -> JobState:
    return (await parity.status("j")).state


@pytest.mark.parametrize("shards", [0, 2])
@pytest.mark.parametrize("reported", [False, True])
async def test_an_acknowledged_cancel_survives_the_loss_of_redis(
    parity: Components, client: redis.Redis, shards: int, reported: bool
) -> None:
    await submit(parity.jobs, parity.store, "j")
    for shard in range(shards):
        await collect(parity.jobs, parity.store, "j", shard)
    await parity.cancel("j")
    if reported:
        await parity.reconciler.round()
    client.flushall()
    await parity.reconciler.round()
    status = await parity.status("j")
    assert (status.state, status.reason, status.shards.done) == (JobState.CANCELLED, "Cancelled by request.", shards)


@pytest.mark.parametrize("reported", [False, True])
async def test_an_acknowledged_retry_survives_the_loss_of_redis(
    parity: Components, client: redis.Redis, reported: bool
) -> None:
    await submit(parity.jobs, parity.store, "j")
    await collect(parity.jobs, parity.store, "j", 0)
    await parity.jobs.fail("j", "it broke")
    if reported:
        await parity.reconciler.round()
    await parity.retry("j")
    client.flushall()
    await parity.reconciler.round()
    status = await parity.status("j")
    assert (status.state, status.shards.done, status.last_error) == (JobState.COLLECTING, 1, None)
    assert (await parity.jobs.snapshot("j")).run == 1


async def test_a_report_that_was_not_withdrawn_does_not_end_a_retried_job(
    parity: Components, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API died between the two."""
    await submit(parity.jobs, parity.store, "j")
    await parity.jobs.fail("j", "it broke")
    await parity.reconciler.round()
    report = parity.store.read("jobs/j/report.json")
    await parity.retry("j")
    parity.store.write("jobs/j/report.json", report)
    client.flushall()
    await parity.reconciler.round()
    assert await state(parity) is JobState.QUEUED


async def test_a_call_that_died_before_redis_is_done_by_the_next_one(parity: Components, client: redis.Redis) -> None:
    await submit(parity.jobs, parity.store, "j")
    await parity.cancel("j")
    record = client.hgetall("mpa:job:j")
    await parity.retry("j")
    client.hset("mpa:job:j", mapping=record)
    client.hdel("mpa:job:j", "run")
    await parity.retry("j")
    await parity.retry("j") if await state(parity) is JobState.CANCELLED else None
    found = [(decision.action, decision.run) for decision in read_decisions(parity.store, "j")]
    assert found == [("cancel", 0), ("retry", 1)]
    assert await state(parity) is JobState.QUEUED


async def test_a_cancel_that_came_too_late_leaves_nothing(
    parity: Components, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await submit(parity.jobs, parity.store, "j")
    await collect_what_is_left(parity.jobs, parity.store, "j")
    cancel = parity.jobs.cancel

    async def late(job_id: str) -> None:
        await parity.jobs.finish(job_id, JobState.COLLECTING, Outcome.NO_GAP, "nothing to learn")
        await cancel(job_id)

    monkeypatch.setattr(parity.jobs, "cancel", late)
    with pytest.raises(Conflict, match="nothing to cancel"):
        await parity.cancel("j")
    assert read_decisions(parity.store, "j") == []


async def test_calls_side_by_side_are_one_decision(parity: Components) -> None:
    await submit(parity.jobs, parity.store, "j")
    await asyncio.gather(*(parity.cancel("j") for _ in range(5)))
    await asyncio.gather(*(parity.retry("j") for _ in range(5)), return_exceptions=True)
    found = [(decision.action, decision.run) for decision in read_decisions(parity.store, "j")]
    assert found == [("cancel", 0), ("retry", 1)]
    assert (await parity.jobs.snapshot("j")).run == 1


async def test_a_retry_takes_the_leases_of_the_run_before(parity: Components) -> None:
    await submit(parity.jobs, parity.store, "j")
    old = await parity.jobs.shards.acquire("j", 0, "frozen", 30, 3)
    assert old is not None
    await parity.cancel("j")
    await parity.retry("j")
    for late in (parity.jobs.shards.heartbeat(old, 30), parity.jobs.shards.complete(old, ShardResult())):
        with pytest.raises(LeaseLost):
            await late
    new = await parity.jobs.shards.acquire("j", 0, "w", 30, 3)
    assert new is not None and new.attempt == 1


CALLS = ("cancel", "retry", "collect", "fail", "round", "flush", "evict", "damage")


class Played:
    """One job, and what was acknowledged about it."""

    def __init__(self, jobs: JobStore, store: Store, parity: Components, client: redis.Redis, job_id: str) -> None:
        self.jobs, self.store, self.parity, self.client, self.job_id = jobs, store, parity, client, job_id
        self.cancelled = False
        self.runs = 0
        self.done: set[int] = set()

    async def do(self, call: str, shard: int) -> None:
        key = f"mpa:job:{self.job_id}"
        if call in ("cancel", "retry"):
            try:
                await getattr(self.parity, call)(self.job_id)
            except Conflict:
                return
            self.cancelled = call == "cancel"
            self.runs += call == "retry"
        elif call == "collect":
            await self.parity.status(self.job_id)  # the record is there
            await collect(self.jobs, self.store, self.job_id, shard)
            if not self.cancelled and (await self.jobs.snapshot(self.job_id)).shard(shard).result:
                self.done.add(shard)
        elif call == "fail":
            await self.parity.status(self.job_id)
            await self.jobs.fail(self.job_id, "it broke")
        elif call == "round":
            await self.parity.reconciler.round()
        elif call == "flush":
            self.client.flushall()
        elif call == "evict":
            self.client.delete(key)
        else:
            self.client.hset(key, "state", "\x00")

    async def check(self) -> None:
        status = await self.parity.status(self.job_id)
        assert (status.state is JobState.CANCELLED) == self.cancelled
        snapshot = await self.jobs.snapshot(self.job_id)
        assert snapshot.run == self.runs
        assert {index for index, shard in snapshot.shards.items() if shard.result} >= self.done


@given(st.lists(st.tuples(st.sampled_from(CALLS), st.integers(0, SHARDS - 1)), max_size=14))
@rules(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_in_any_order_what_was_acknowledged_holds(tmp_path: Path, redis_url: str, calls: list[tuple[str, int]]) -> None:
    async def play() -> None:
        folder = tmp_path / "store"
        settings = ParitySettings(data_dir=tmp_path / "data", store=folder.as_uri(), redis_url=redis_url)
        parity = build(settings, CollectorRegistry())
        with redis.Redis.from_url(redis_url) as client:
            client.flushall()
            parity.store.delete("jobs")
            played = Played(parity.jobs, parity.store, parity, client, "j")
            await submit(parity.jobs, parity.store, "j")
            for call, shard in calls:
                await played.do(call, shard)
                await played.check()
        await parity.jobs.aclose()

    asyncio.run(play())
