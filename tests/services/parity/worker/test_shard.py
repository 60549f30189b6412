"""A shard is done once, by who holds it, and what is published is never lost."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from services.parity.jobs.reconciler import Reconciler, ReconcilerRules
from services.parity.worker.shard import ShardWork, trace_every
from shared.contracts import JobSpec, JobState
from shared.queue import make_celery
from shared.sets import set_digest, shard_key, shard_numbers
from shared.settings import ParitySettings
from shared.state import JobStore
from shared.store import Store
from tests.embedded_redis import start_embedded_redis
from tests.polling import async_wait_until
from tests.services.parity.collecting import Model, Spec, Submit, collect, submitter


async def test_a_done_shard_is_not_done_again(
    work: ShardWork, submit: Submit, spec: Spec, teacher: Model, store: Store
) -> None:
    job_id = await submit(spec())
    await collect(work, job_id)
    asked, digest, status = len(teacher[0].requests), set_digest(store, job_id), await work.jobs.get(job_id)
    await collect(work, job_id)
    assert (len(teacher[0].requests), set_digest(store, job_id)) == (asked, digest)
    assert (await work.jobs.get(job_id)).pairs == status.pairs


async def test_a_published_file_is_taken_over(
    work: ShardWork, jobs: JobStore, submit: Submit, spec: Spec, teacher: Model, store: Store
) -> None:
    first, second = await submit(spec()), await submit(spec())
    await collect(work, first)
    for shard in shard_numbers(store, first):
        store.create(shard_key(second, shard), store.read(shard_key(first, shard)))
    asked = len(teacher[0].requests)
    await collect(work, second)
    assert len(teacher[0].requests) == asked
    assert (await jobs.get(second)).verdicts == (await jobs.get(first)).verdicts


async def test_who_lost_the_lease_writes_nothing(
    work: ShardWork, jobs: JobStore, submit: Submit, spec: Spec, teacher: Model, store: Store
) -> None:
    job_id = await submit(spec())
    teacher[0].delay = 0.3
    running = asyncio.create_task(work.run(job_id, 0))
    await async_wait_until(lambda: _true(len(teacher[0].requests) > 0))
    await jobs.cancel(job_id)
    async with asyncio.timeout(20):
        await running
    assert shard_numbers(store, job_id) == []
    assert (await jobs.get(job_id)).shards.done == 0


async def test_a_stopped_worker_gives_its_shard_back(
    work: ShardWork, jobs: JobStore, submit: Submit, spec: Spec, teacher: Model
) -> None:
    job_id = await submit(spec())
    teacher[0].delay = 5.0
    running = asyncio.create_task(work.run(job_id, 0))
    await async_wait_until(lambda: _true(len(teacher[0].requests) > 0))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    shard = (await jobs.snapshot(job_id)).shard(0)
    assert (shard.status, shard.attempts) == ("pending", 0)


async def test_an_outage_of_redis_at_the_end_costs_no_attempt(
    work: ShardWork, submit: Submit, spec: Spec, teacher: Model, settings: ParitySettings, tmp_path: Path
) -> None:
    """Redis dies after the first call to the teacher and comes back after the last one."""
    await work.run(await submit(spec()), 0)
    calls = len(teacher[0].requests)
    own = start_embedded_redis(tmp_path / "own")
    async with aclosing(JobStore.from_url(own.url)) as jobs:
        disturbed = replace(work, jobs=jobs)
        job_id = (await submitter(settings, disturbed).submit(JobSpec.model_validate(spec())))[0]
        running = asyncio.create_task(disturbed.run(job_id, 0))
        await async_wait_until(lambda: _true(len(teacher[0].requests) > calls))
        own.process.kill()
        own.process.wait()
        await async_wait_until(lambda: _true(len(teacher[0].requests) == 2 * calls))
        again = await asyncio.to_thread(start_embedded_redis, tmp_path / "own", port=own.port)
        try:
            async with asyncio.timeout(20):
                await running
            shard = (await jobs.snapshot(job_id)).shard(0)
        finally:
            again.stop()
    assert (shard.status, shard.attempts, shard.error) == ("done", 1, None)


async def test_a_record_lost_before_the_end_is_no_failed_attempt(
    work: ShardWork, jobs: JobStore, submit: Submit, spec: Spec, teacher: Model, caplog: pytest.LogCaptureFixture
) -> None:
    """No renewal notices it any more: the last look before the file does."""
    await work.run(await submit(spec()), 0)
    calls = len(teacher[0].requests)
    job_id = await submit(spec())
    teacher[0].delay = 0.1
    running = asyncio.create_task(work.run(job_id, 0))
    await async_wait_until(lambda: _true(len(teacher[0].requests) == 2 * calls))
    await jobs._hash.redis.flushall()
    async with asyncio.timeout(30):
        await running
    assert "The shard failed" not in caplog.text
    assert shard_numbers(work.store, job_id) == []


async def test_a_flushed_redis_is_rebuilt_from_the_store(
    work: ShardWork,
    jobs: JobStore,
    submit: Submit,
    spec: Spec,
    store: Store,
    settings: ParitySettings,
    redis_url: str,
    teacher: Model,
) -> None:
    calm, job_id = await submit(spec()), await submit(spec())
    await collect(work, calm)
    await work.run(job_id, 0)
    await work.run(job_id, 2)
    await jobs._hash.redis.flushall()
    reconciler = Reconciler(jobs, store, make_celery(settings), ReconcilerRules(0.1, 6, 3, 3))
    await reconciler.round()
    status = await jobs.get(job_id)
    assert (status.state, status.shards.done) == (JobState.COLLECTING, 2)
    asked = len(teacher[0].requests)
    await collect(work, job_id)
    assert len(teacher[0].requests) > asked
    assert set_digest(store, job_id) == set_digest(store, calm)
    await reconciler.round()
    assert (await jobs.get(job_id)).state is JobState.TRAINING


async def _true(value: bool) -> bool:
    return value


@pytest.mark.parametrize(("images", "traced", "every"), [(20, 50, 1), (1000, 50, 20), (1001, 50, 21), (20, 0, 0)])
def test_no_more_images_are_traced_than_allowed(images: int, traced: int, every: int) -> None:
    assert trace_every(images, traced) == every
    assert every == 0 or len(range(0, images, every)) <= traced
