"""A report shows the state so far, and once the job is final it is stored and stays as it is."""

from __future__ import annotations

import json

import pytest

from services.parity.jobs.report import (
    make_report,
    publish_report,
    read_report,
    report_key,
    shown,
    withdraw_report,
)
from shared.contracts import JobState, Outcome
from shared.errors import NotFound
from shared.sets import write_shard
from shared.state import JobStore, Rebuilt
from shared.store import Store
from tests.shared.sets.rows import row
from tests.shared.state.conftest import collect_all, stored


async def finished(jobs: JobStore, store: Store) -> None:
    await jobs.create(stored())
    for shard in range(3):
        write_shard(store, "job-1", shard, [row(shard, job_id="job-1", shard=shard)])
    await collect_all(jobs)
    await jobs.finish("job-1", JobState.COLLECTING, Outcome.NO_GAP, "nothing to learn")


async def test_a_running_job_has_a_report_that_is_not_stored(jobs: JobStore, store: Store) -> None:
    await jobs.create(stored())
    report = await make_report(jobs, store, "job-1")
    assert (report.status.state, report.set_digest, report.spec) == (JobState.QUEUED, None, stored().spec)
    assert not await publish_report(jobs, store, "job-1")
    assert read_report(store, "job-1") is None
    with pytest.raises(NotFound):
        await make_report(jobs, store, "other")


async def test_one_of_many_publishes_the_report_of_a_final_job(jobs: JobStore, store: Store) -> None:
    await finished(jobs, store)
    assert [await publish_report(jobs, store, "job-1") for _ in range(3)] == [True, False, False]
    report = read_report(store, "job-1")
    assert report is not None
    assert report.set_digest
    assert report.status.set_url == store.url_of("jobs/job-1/set")
    assert await make_report(jobs, store, "job-1") == report
    assert await jobs.active() == []


async def test_a_stored_report_is_older_than_a_retried_job(jobs: JobStore, store: Store) -> None:
    await jobs.create(stored())
    await jobs.fail("job-1", "it broke")
    await publish_report(jobs, store, "job-1")
    await jobs.retry("job-1")
    await jobs.fail("job-1", "it broke again")
    assert (await make_report(jobs, store, "job-1")).status.last_error == "it broke again"
    await withdraw_report(store, "job-1")
    assert read_report(store, "job-1") is None


@pytest.mark.parametrize("end", ["no gap", "failed", "cancelled"])
async def test_a_report_keeps_its_times_when_redis_has_lost_the_record(
    jobs: JobStore, store: Store, redis_url: str, end: str
) -> None:
    """The rebuilt record knows only when the job began and ended, not how long each state took."""
    if end == "no gap":
        await finished(jobs, store)
    else:
        await jobs.create(stored())
        await collect_all(jobs, shards=1)
        await (jobs.fail("job-1", "it broke") if end == "failed" else jobs.cancel("job-1"))
    await publish_report(jobs, store, "job-1")
    before = store.read(report_key("job-1"))
    await jobs._hash.redis.flushall()
    found = read_report(store, "job-1")
    assert found is not None and "collecting" in found.seconds
    await jobs.create(stored(), Rebuilt({}, found.status))
    assert await publish_report(jobs, store, "job-1")
    assert store.read(report_key("job-1")) == before
    assert await make_report(jobs, store, "job-1") == found


async def test_a_report_of_a_later_release_is_not_written_again(jobs: JobStore, store: Store) -> None:
    """This release does not know all its fields, and would lose them."""
    await finished(jobs, store)
    await publish_report(jobs, store, "job-1")
    later = json.dumps(json.loads(store.read(report_key("job-1"))) | {"invented_later": 1}).encode()
    store.write(report_key("job-1"), later)
    await publish_report(jobs, store, "job-1")
    assert store.read(report_key("job-1")) == later


async def test_a_report_of_a_later_release_is_shown(jobs: JobStore, store: Store) -> None:
    await finished(jobs, store)
    await publish_report(jobs, store, "job-1")
    later = json.loads(store.read(report_key("job-1"))) | {"invented_later": 1}
    store.write(report_key("job-1"), json.dumps(later).encode())
    report = read_report(store, "job-1")
    assert report is not None
    assert report.status.outcome is Outcome.NO_GAP


async def test_the_sets_address_is_shown_as_soon_as_there_is_a_shard(jobs: JobStore, store: Store) -> None:
    await jobs.create(stored())
    assert shown(await jobs.snapshot("job-1"), store).set_url is None
    await collect_all(jobs, shards=1)
    assert shown(await jobs.snapshot("job-1"), store).set_url == store.url_of("jobs/job-1/set")
