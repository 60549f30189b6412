"""Job records on a real Redis: creation, states, versions, cancel, retry, rebuild."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from shared.contracts import JobState, Outcome
from shared.errors import Conflict, LeaseLost, NotFound
from shared.state import JobStore, Rebuilt, ShardResult
from tests.embedded_redis import start_embedded_redis
from tests.shared.state.conftest import RESULT, Clock, collect_all, stored


async def test_a_new_job_is_queued_with_nothing_done(jobs: JobStore) -> None:
    assert await jobs.create(stored())
    assert not await jobs.create(stored())
    status = await jobs.get("job-1")
    assert (status.state, status.images.total, status.shards.total, status.pairs) == (JobState.QUEUED, 10, 3, 0)
    assert await jobs.active() == ["job-1"]


async def test_an_unknown_job_is_not_found(jobs: JobStore) -> None:
    for call in (jobs.get("x"), jobs.version("x"), jobs.cancel("x"), jobs.retry("x")):
        with pytest.raises(NotFound, match="no job x"):
            await call
    with pytest.raises(NotFound):
        await jobs.shards.acquire("x", 0, "w", 30, 5)


async def test_doubles_change_no_count(jobs: JobStore) -> None:
    await jobs.create(stored())
    lease = await jobs.shards.acquire("job-1", 0, "w", 30, 5)
    assert lease is not None
    await jobs.shards.complete(lease, RESULT)
    before = await jobs.get("job-1")
    with pytest.raises(LeaseLost):
        await jobs.shards.complete(lease, RESULT)
    assert await jobs.shards.acquire("job-1", 0, "other", 30, 5) is None
    assert await jobs.get("job-1") == before


async def test_exactly_one_of_many_moves_the_job_on(jobs: JobStore) -> None:
    await jobs.create(stored())
    await collect_all(jobs)
    moves = (jobs.transition("job-1", JobState.COLLECTING, JobState.TRAINING) for _ in range(10))
    assert sum(await asyncio.gather(*moves)) == 1
    claims = (jobs.trainings.claim_due("job-1", 30, True, 3) for _ in range(10))
    assert sum(await asyncio.gather(*claims)) == 1


async def test_an_illegal_transition_is_refused(jobs: JobStore) -> None:
    await jobs.create(stored())
    with pytest.raises(Conflict, match="cannot become promoting"):
        await jobs.transition("job-1", JobState.QUEUED, JobState.PROMOTING)


async def test_cancel_takes_the_leases(jobs: JobStore) -> None:
    await jobs.create(stored())
    lease = await jobs.shards.acquire("job-1", 0, "w", 30, 5)
    assert lease is not None
    await jobs.cancel("job-1")
    await jobs.cancel("job-1")
    with pytest.raises(LeaseLost, match="cancelled"):
        await jobs.shards.heartbeat(lease, 30)
    with pytest.raises(LeaseLost):
        await jobs.shards.complete(lease, RESULT)
    assert (await jobs.get("job-1")).state is JobState.CANCELLED


async def test_what_is_final_or_promoting_cannot_be_cancelled(jobs: JobStore) -> None:
    await jobs.create(stored())
    await collect_all(jobs)
    await jobs.transition("job-1", JobState.COLLECTING, JobState.TRAINING)
    lease = await jobs.trainings.acquire("job-1", "t", 30, 3)
    assert lease is not None
    await jobs.trainings.advance(lease, JobState.EVALUATING)
    await jobs.trainings.advance(lease, JobState.PROMOTING)
    with pytest.raises(Conflict, match="roll the student back"):
        await jobs.cancel("job-1")
    await jobs.trainings.finish(lease, Outcome.PROMOTED, "better")
    with pytest.raises(Conflict, match="nothing to cancel"):
        await jobs.cancel("job-1")


async def test_retry_keeps_finished_shards(jobs: JobStore) -> None:
    await jobs.create(stored())
    with pytest.raises(Conflict, match="only failed or cancelled"):
        await jobs.retry("job-1")
    first = await jobs.shards.acquire("job-1", 0, "w", 30, 5)
    second = await jobs.shards.acquire("job-1", 1, "w", 30, 5)
    assert first is not None
    assert second is not None
    await jobs.shards.complete(first, RESULT)
    await jobs.fail("job-1", "it broke")
    assert (await jobs.get("job-1")).last_error == "it broke"
    await jobs.retry("job-1")
    status = await jobs.get("job-1")
    assert (status.state, status.shards.done, status.last_error) == (JobState.COLLECTING, 1, None)
    with pytest.raises(LeaseLost):
        await jobs.shards.complete(second, RESULT)
    assert await jobs.shards.claim_due("job-1", [0, 1, 2], 30, False, 5) == [1, 2]


async def test_the_version_grows_with_every_change_but_not_with_bare_heartbeats(jobs: JobStore) -> None:
    await jobs.create(stored())
    versions = [await jobs.version("job-1")]
    lease = await jobs.shards.acquire("job-1", 0, "w", 30, 5)
    assert lease is not None
    versions.append(await jobs.version("job-1"))
    await jobs.shards.heartbeat(lease, 30, ShardResult(images=1))
    versions.append(await jobs.version("job-1"))
    await jobs.shards.heartbeat(lease, 60, ShardResult(images=1))
    assert versions == sorted(set(versions))
    assert await jobs.version("job-1") == versions[-1]


async def test_jobs_are_listed_newest_first_in_pages(jobs: JobStore) -> None:
    for number in range(5):
        await jobs.create(stored(f"job-{number}", created=1_800_000_000.0 + number))
    first, cursor = await jobs.page(limit=2)
    second, cursor = await jobs.page(cursor, limit=2)
    third, end = await jobs.page(cursor, limit=2)
    assert first + second + third == [f"job-{n}" for n in (4, 3, 2, 1, 0)]
    assert end is None


async def test_a_lost_job_is_rebuilt_with_its_finished_shards(jobs: JobStore, clock: Clock) -> None:
    assert await jobs.create(stored(), Rebuilt({0: RESULT, 2: RESULT}))
    status = await jobs.get("job-1")
    assert (status.state, status.shards.done, status.images.done) == (JobState.COLLECTING, 2, 8)
    assert status.version >= clock.now
    assert await jobs.shards.claim_due("job-1", [0, 1, 2], 30, False, 5) == [1]


async def test_a_lost_final_job_is_rebuilt_as_it_was(jobs: JobStore) -> None:
    await jobs.create(stored())
    await collect_all(jobs)
    await jobs.finish("job-1", JobState.COLLECTING, Outcome.NO_GAP, "nothing to learn")
    final = await jobs.get("job-1")
    await jobs.create(stored("copy"), Rebuilt(dict.fromkeys(range(3), RESULT), final))
    copy = await jobs.get("copy")
    assert (copy.state, copy.outcome, copy.reason) == (final.state, final.outcome, final.reason)
    assert copy.finished_at == final.finished_at


async def test_a_reported_job_needs_no_more_care(jobs: JobStore) -> None:
    await jobs.create(stored())
    await jobs.mark_reported("job-1")
    assert await jobs.active() == ["job-1"]
    await jobs.cancel("job-1")
    await jobs.mark_reported("job-1")
    assert await jobs.active() == []
    await jobs.retry("job-1")
    assert await jobs.active() == ["job-1"]


async def test_the_first_call_after_a_restart_of_redis_gets_through(tmp_path: Path) -> None:
    """A worker keeps its connections between two tasks, and Redis may die meanwhile."""
    server = start_embedded_redis(tmp_path)
    jobs = JobStore.from_url(server.url)
    try:
        assert await jobs.create(stored())
        await asyncio.to_thread(server.stop)
        server = await asyncio.to_thread(start_embedded_redis, tmp_path, port=server.port)
        assert (await jobs.get("job-1")).state is JobState.QUEUED
    finally:
        await jobs.aclose()
        server.stop()
