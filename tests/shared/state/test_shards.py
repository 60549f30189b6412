"""Leases on shards: one holder at a time, guarded writes, and no message lost for good."""

from __future__ import annotations

import asyncio

import pytest

from shared.errors import LeaseLost
from shared.state import JobStore, ShardResult, WorkStatus
from tests.shared.state.conftest import Clock, stored


async def test_one_of_many_gets_the_shard(jobs: JobStore) -> None:
    await jobs.create(stored())
    leases = await asyncio.gather(*(jobs.shards.acquire("job-1", 0, f"w{n}", 30, 5) for n in range(12)))
    assert sum(lease is not None for lease in leases) == 1


async def test_shards_are_taken_side_by_side(jobs: JobStore) -> None:
    await jobs.create(stored(images=40, shard_size=1))
    leases = await asyncio.gather(*(jobs.shards.acquire("job-1", n, "w", 30, 5) for n in range(40)))
    assert all(leases)
    await asyncio.gather(*(jobs.shards.complete(lease, ShardResult(images=1)) for lease in leases if lease))
    assert (await jobs.get("job-1")).shards.done == 40


async def test_a_shard_that_does_not_exist_is_not_given(jobs: JobStore) -> None:
    await jobs.create(stored())
    assert await jobs.shards.acquire("job-1", 3, "w", 30, 5) is None
    assert await jobs.shards.acquire("job-1", -1, "w", 30, 5) is None


async def test_an_expired_lease_passes_on_and_its_late_writes_are_refused(jobs: JobStore, clock: Clock) -> None:
    await jobs.create(stored())
    first = await jobs.shards.acquire("job-1", 0, "w1", 30, 5)
    assert first is not None
    clock.pass_seconds(29)
    assert await jobs.shards.acquire("job-1", 0, "w2", 30, 5) is None
    clock.pass_seconds(1)
    second = await jobs.shards.acquire("job-1", 0, "w2", 30, 5)
    assert second is not None
    assert second.attempt == 2
    for write in (
        jobs.shards.heartbeat(first, 30),
        jobs.shards.complete(first, ShardResult()),
        jobs.shards.release(first),
        jobs.shards.fail(first, "late", 5),
    ):
        with pytest.raises(LeaseLost):
            await write
    await jobs.shards.complete(second, ShardResult(images=4))


async def test_an_expired_lease_that_nobody_took_can_still_be_renewed(jobs: JobStore, clock: Clock) -> None:
    await jobs.create(stored())
    lease = await jobs.shards.acquire("job-1", 0, "w", 30, 5)
    assert lease is not None
    clock.pass_seconds(100)
    assert (await jobs.shards.heartbeat(lease, 30)).expires == clock.now + 30
    assert await jobs.shards.acquire("job-1", 0, "w2", 30, 5) is None


async def test_a_release_costs_no_attempt_and_is_due_at_once(jobs: JobStore) -> None:
    await jobs.create(stored())
    lease = await jobs.shards.acquire("job-1", 0, "w", 30, 5)
    assert lease is not None
    await jobs.shards.release(lease)
    shard = (await jobs.snapshot("job-1")).shard(0)
    assert (shard.status, shard.attempts) == (WorkStatus.PENDING, 0)
    assert await jobs.shards.claim_due("job-1", [0], 30, False, 5) == [0]


async def test_a_failure_is_due_later_and_the_last_one_is_final(jobs: JobStore, clock: Clock) -> None:
    await jobs.create(stored())
    for attempt in (1, 2, 3):
        lease = await jobs.shards.acquire("job-1", 0, "w", 30, 3)
        assert lease is not None
        assert await jobs.shards.fail(lease, "boom", 3) is (attempt == 3)
        if attempt < 3:
            assert await jobs.shards.claim_due("job-1", [0], 30, False, 3) == []
            clock.pass_seconds(10)
            assert await jobs.shards.claim_due("job-1", [0], 30, False, 3) == [0]
    assert (await jobs.snapshot("job-1")).shard(0).status is WorkStatus.FAILED
    assert (await jobs.get("job-1")).last_error == "boom"
    assert await jobs.shards.acquire("job-1", 0, "w", 30, 3) is None


async def test_one_of_many_reconcilers_sends_a_message(jobs: JobStore) -> None:
    await jobs.create(stored())
    claims = await asyncio.gather(*(jobs.shards.claim_due("job-1", [0, 1, 2], 30, False, 5) for _ in range(8)))
    assert sorted(index for claim in claims for index in claim) == [0, 1, 2]


async def test_a_queued_shard_is_sent_again_only_if_the_queue_is_too_short(jobs: JobStore, clock: Clock) -> None:
    await jobs.create(stored())
    assert await jobs.shards.claim_due("job-1", [0], 30, False, 5) == [0]
    assert await jobs.shards.claim_due("job-1", [0], 30, True, 5) == []
    clock.pass_seconds(30)
    assert await jobs.shards.claim_due("job-1", [0], 30, False, 5) == []
    assert await jobs.shards.claim_due("job-1", [0], 30, True, 5) == [0]


async def test_a_shard_whose_workers_vanish_is_given_up(jobs: JobStore, clock: Clock) -> None:
    await jobs.create(stored())
    for _ in range(2):
        assert await jobs.shards.claim_due("job-1", [0], 30, False, 2) == [0]
        assert await jobs.shards.acquire("job-1", 0, "w9", 30, 2) is not None
        assert await jobs.shards.claim_due("job-1", [0], 30, True, 2) == []
        clock.pass_seconds(31)
    assert await jobs.shards.claim_due("job-1", [0], 30, False, 2) == []
    shard = (await jobs.snapshot("job-1")).shard(0)
    assert shard.status is WorkStatus.FAILED
    assert "w9 stopped answering" in (shard.error or "")
