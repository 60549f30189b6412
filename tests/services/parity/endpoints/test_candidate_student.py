"""The round's candidate as the student: waited for, kept, freed, and never taken for another version."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from services.parity.endpoints.candidate_student import CandidateStudent, free_candidate
from services.parity.worker.shard import ShardWork
from shared.checkpoints.canaries import CanaryRegistry, owner_of
from shared.client import ParityClient
from shared.contracts import CanaryRequest, CanaryState, JobState, Verdict
from shared.errors import Unavailable, UpstreamError
from shared.sets import read_set
from shared.state import JobStore
from shared.store import Store
from tests.polling import async_wait_until
from tests.scripted_models import Body, weak_student
from tests.services.parity.collecting import SHARDS, TWO, Model, Spec, collect, in_second_round


async def test_cancel_and_retry_stay_in_the_round_and_free_the_candidate(
    api: ParityClient, work: ShardWork, store: Store, spec: Spec, student: Model
) -> None:
    job = await in_second_round(api, work, spec(rounds=TWO))
    await work.run(job.id, SHARDS)
    # The scripted student keeps no registry, so the test writes what a real one would have.
    canaries = CanaryRegistry(store, "student")
    canaries.start(CanaryRequest.model_validate(student[0].canaries[0]), "base")
    await api.cancel(job.id)

    async def freed() -> bool:
        latest = canaries.latest()
        return latest is not None and latest.state is CanaryState.ABORTED

    await async_wait_until(freed)
    retried = await api.retry(job.id)
    assert (retried.state, retried.round, retried.shards.done) == (JobState.COLLECTING, 2, 1)
    assert len(retried.past_rounds) == 1
    await collect(work, job.id, 2)
    assert (await api.job(job.id)).state is JobState.TRAINING


async def test_the_candidate_is_freed_when_its_round_is_mined(
    api: ParityClient, work: ShardWork, store: Store, spec: Spec
) -> None:
    job = await in_second_round(api, work, spec(rounds=TWO))
    request = CanaryRequest(version="job-1", share=0.0, lifetime_seconds=60.0, by=owner_of(job.id))
    canary = CanaryRegistry(store, "student").start(request, "base")
    await collect(work, job.id, 2)
    latest = CanaryRegistry(store, "student").latest()
    assert latest is not None
    assert (latest.id, latest.state, latest.reason) == (canary.id, CanaryState.ABORTED, "the round is over")
    free_candidate(store, "student", job.id)
    assert CanaryRegistry(store, "student").latest() == latest


async def test_a_round_waits_while_another_canary_runs(
    api: ParityClient, work: ShardWork, jobs: JobStore, store: Store, spec: Spec, student: Model
) -> None:
    job = await in_second_round(api, work, spec(rounds=TWO))
    student[0].occupied = "The canary of job-x is running: promote or abort it first."
    await work.run(job.id, SHARDS)
    postponed = (await jobs.snapshot(job.id)).shard(SHARDS)
    assert (postponed.attempts, postponed.token) == (0, ""), "it keeps no worker from other jobs"
    told = (await api.job(job.id)).waiting_for or ""
    assert "no place for student@job-1" in told
    assert "canary of job-x" in told
    student[0].occupied = ""
    await work.run(job.id, SHARDS)
    assert (await api.job(job.id)).waiting_for is None
    assert (await api.job(job.id)).shards.done == 1
    refused = read_set(store, job.id, verdicts=[Verdict.REFUSED], rounds=[2])
    assert refused.num_rows == 0, "waiting for the candidate is no question's fault"


async def test_a_candidate_that_is_taken_away_in_the_middle_is_waited_for(
    api: ParityClient, work: ShardWork, store: Store, spec: Spec, student: Model
) -> None:
    job = await in_second_round(api, work, spec(rounds=TWO))

    def taken_away_once(body: Body) -> list[str]:
        if len(student[0].canaries) == 1:
            student[0].beside.clear()
            student[0].occupied = "The canary of job-x is running: promote or abort it first."
        return weak_student(body)

    student[0].script = taken_away_once
    waiting = asyncio.create_task(work.run(job.id, SHARDS))

    async def says_so() -> bool:
        return "no place for student@job-1" in ((await api.job(job.id)).waiting_for or "")

    await async_wait_until(says_so, timeout=20)
    assert not waiting.done()
    student[0].occupied = ""
    async with asyncio.timeout(30):
        await waiting
    assert len(student[0].canaries) > 1
    assert (await api.job(job.id)).shards.done == 1
    assert read_set(store, job.id, verdicts=[Verdict.REFUSED], rounds=[2]).num_rows == 0


@pytest.mark.slow
async def test_a_candidate_that_loads_longer_than_a_lease_lasts_is_waited_for_under_it(
    api: ParityClient, work: ShardWork, jobs: JobStore, spec: Spec, student: Model
) -> None:
    job = await in_second_round(api, work, spec(rounds=TWO))
    student[0].loading = 2.5
    await replace(work, lease=2.0).run(job.id, SHARDS)
    done = (await jobs.snapshot(job.id)).shard(SHARDS)
    assert (done.result is not None, done.attempts) == (True, 1)


async def test_a_candidate_that_somebody_promoted_meanwhile_needs_no_place(
    api: ParityClient, work: ShardWork, spec: Spec, student: Model
) -> None:
    job = await in_second_round(api, work, spec(rounds=TWO))
    student[0].version, student[0].occupied = "job-1", "job-1 is already active: a canary needs another version."
    await work.run(job.id, SHARDS)
    assert (await api.job(job.id)).shards.done == 1


async def test_another_version_than_the_candidate_is_not_believed(work: ShardWork, student: Model) -> None:
    student[0].beside = {"job-1"}
    server, model = student[1], student[0]
    async with CandidateStudent(
        server.url, student="student", version="job-1", job_id="j", api_key=None, timeout=5, calls=2
    ) as candidate:
        candidate._check("job-1")
        with pytest.raises(Unavailable, match="student@job-1 was asked, but base answered"):
            candidate._check("base")
    assert model.canaries == []


@pytest.mark.parametrize(
    ("room", "rounds", "method", "accepted"),
    [
        ("any", 3, "full", True),
        (None, 3, "full", True),
        ("none", 2, "lora", False),
        ("adapters", 2, "lora", True),
        ("adapters", 2, "full", False),
        ("adapters", 3, "lora", False),
    ],
)
async def test_a_student_without_room_for_a_candidate_refuses_rounds_at_submit(
    api: ParityClient, spec: Spec, student: Model, room: str | None, rounds: int, method: str, accepted: bool
) -> None:
    student[0].room = room
    wanted = spec(rounds={"max": rounds}, train={"method": method})
    if accepted:
        assert (await api.submit(wanted)).rounds == rounds
        return
    with pytest.raises(UpstreamError, match=r"rounds\.max: the student at .* alongside the active version") as refused:
        await api.submit(wanted)
    assert refused.value.upstream_status == 422
    assert (await api.submit({**wanted, "rounds": {"max": 1}})).rounds == 1
