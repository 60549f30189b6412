"""A job whose record Redis lost goes on from what the store keeps."""

from __future__ import annotations

from services.parity.jobs.rebuild import rebuild
from services.parity.worker.shard import ShardWork
from shared.client import ParityClient
from shared.contracts import JobState
from shared.state import JobStore
from shared.store import Store
from tests.services.parity.collecting import SHARDS, TWO, Spec, collect, in_second_round


async def test_a_job_whose_record_is_lost_goes_on_in_its_round(
    api: ParityClient, work: ShardWork, jobs: JobStore, store: Store, spec: Spec
) -> None:
    job = await in_second_round(api, work, spec(rounds=TWO))
    await work.run(job.id, SHARDS + 1)
    before = await api.job(job.id)
    await jobs._hash.redis.flushall()
    await rebuild(jobs, store, job.id)
    after = await api.job(job.id)
    assert (after.state, after.round, after.shards, after.images) == (
        JobState.COLLECTING,
        2,
        before.shards,
        before.images,
    )
    assert after.past_rounds == before.past_rounds
    assert after.verdicts == before.verdicts
    await collect(work, job.id, 2)
    assert (await api.job(job.id)).state is JobState.TRAINING
