"""Mining again: other questions, the round's candidate as the student, and a trainer that is played by the test."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.parity.endpoints.candidate_student import CandidateStudent, free_candidate
from services.parity.jobs.rebuild import rebuild
from services.parity.mining.question_plan import RoundPlan, questions_each
from services.parity.worker.shard import ShardWork
from shared.checkpoints.canaries import CanaryRegistry, owner_of
from shared.client import ParityClient
from shared.contracts import (
    CanaryRequest,
    CanaryState,
    JobSpec,
    JobState,
    JobStatus,
    ManifestEntry,
    RoundReport,
    Split,
    TaskShare,
    Verdict,
)
from shared.errors import UpstreamError
from shared.sets import read_set, shard_numbers
from shared.sets.rounds import read_rounds
from shared.state import JobStore
from shared.store import Store
from shared.vqa.answers import normalise_question
from shared.vqa.builtin import BUILT_IN
from tests.polling import async_wait_until
from tests.scripted_models import Body, strong_student, text_of, weak_student
from tests.services.parity.collecting import Model, Spec, collect, train

SHARDS = 4
TWO = {"max": 2, "min_disparity": 0.0, "min_gain": 0.0}


async def in_second_round(api: ParityClient, work: ShardWork, spec: dict[str, Any]) -> JobStatus:
    """A new job whose first round is over."""
    job = await api.submit(spec)
    await collect(work, job.id)
    await train(work.jobs, work.store, job.id, goes_on=True)
    return await api.job(job.id)


async def test_a_second_round_asks_the_candidate_other_questions_about_the_same_images(
    api: ParityClient, work: ShardWork, store: Store, spec: Spec, student: Model
) -> None:
    job = await api.submit(spec(rounds=TWO))
    await work.run(job.id, SHARDS)  # a message of a round that has not begun
    assert shard_numbers(store, job.id) == []
    await collect(work, job.id)
    await train(work.jobs, work.store, job.id, goes_on=True)
    second = await api.job(job.id)
    assert (second.state, second.round, second.rounds) == (JobState.COLLECTING, 2, 2)
    assert (second.images.done, second.shards.done, second.pairs) == (0, 0, 40)
    await work.run(job.id, 0)  # a late message of the first round
    student[0].script = lambda body: (strong_student if "@job-1" in body["model"] else weak_student)(body)
    await collect(work, job.id, 2)
    done = await api.job(job.id)
    assert (done.state, done.images.done, done.shards.done, done.pairs) == (JobState.TRAINING, 20, 4, 80)
    rows = read_set(store, job.id).to_pylist()
    assert shard_numbers(store, job.id) == list(range(2 * SHARDS))
    assert Counter(row["round"] for row in rows) == {1: 40, 2: 40}
    assert len({row["pair_id"] for row in rows}) == 80
    assert Counter(row["verdict"] for row in rows) == {k: v for k, v in done.verdicts.items() if v}
    again = [row for row in rows if row["round"] == 2]
    assert {row["student_version"] for row in again if row["student_answer"]} == {"job-1"}
    assert {row["split"] for row in again} == {Split.TRAIN, Split.HELD_OUT}
    splits = {(row["image"], row["split"]) for row in rows}
    assert len(splits) == 20, "what is held out stays held out"
    assert not [row for row in again if row["verdict"] == Verdict.DISPARITY], "the candidate is never wrong"
    asked = {(row["image"], normalise_question(row["question"])) for row in rows if row["round"] == 1}
    for row in again:
        old = (row["image"], normalise_question(row["question"])) in asked
        assert old <= (row["verdict"] == Verdict.DUPLICATE)
    assert any("of round 1" in row["reason"] for row in again)
    (request,) = {(c["version"], c["share"], c["by"]) for c in student[0].canaries}
    assert request == ("job-1", 0.0, f"job {job.id}")
    await train(work.jobs, work.store, job.id, goes_on=False)
    report = await api.report(job.id)
    assert [past.round for past in report.status.past_rounds] == [1, 2]
    pairs = await api.pairs(job.id, limit=1000)
    assert len(pairs.pairs) == 80


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
    student[0].version, student[0].occupied = "job-1", "job-1 is active already: a canary needs another version."
    await work.run(job.id, SHARDS)
    assert (await api.job(job.id)).shards.done == 1


async def test_another_version_than_the_candidate_is_not_believed(work: ShardWork, student: Model) -> None:
    student[0].beside = {"job-1"}
    server, model = student[1], student[0]
    async with CandidateStudent(
        server.url, student="student", version="job-1", job_id="j", api_key=None, timeout=5, calls=2
    ) as candidate:
        candidate._check("job-1")
        with pytest.raises(Exception, match="student@job-1 was asked, but base answered"):
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
    with pytest.raises(UpstreamError, match=r"rounds\.max: the student at .* beside the active version") as refused:
        await api.submit(wanted)
    assert refused.value.upstream_status == 422
    assert (await api.submit({**wanted, "rounds": {"max": 1}})).rounds == 1


async def test_steering_asks_more_about_the_task_that_fails(
    api: ParityClient, work: ShardWork, store: Store, spec: Spec, student: Model, teacher: Model
) -> None:
    def fails_at_charts(body: Body) -> list[str]:
        return ["5000"] if "number 1" in text_of(body) or "number 2" in text_of(body) else strong_student(body)

    student[0].script = fails_at_charts
    steered = {**TWO, "steer": True}
    job = await api.submit(spec(rounds=steered, tasks=["chart", "text"], annotator={"questions_per_image": 3}))
    await collect(work, job.id)
    await train(work.jobs, work.store, job.id, goes_on=True)
    (report,) = read_rounds(store, job.id)
    worse, better = sorted(report.tasks, key=lambda task: -report.tasks[task].disparity / report.tasks[task].checked)
    await collect(work, job.id, 2)
    rows = read_set(store, job.id, rounds=[2]).to_pylist()
    asked = Counter(row["task"] for row in rows)
    assert asked[worse] > asked[better] >= 20
    assert abs(asked.total() - 2 * 3 * 20) <= 2
    assert (await api.job(job.id)).images.done == 20


TASKS = ["a", "b", "c"]
shares = st.dictionaries(
    st.sampled_from(TASKS),
    st.integers(0, 50).flatmap(lambda n: st.integers(0, n).map(lambda k: TaskShare(checked=n, disparity=k))),
)


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.sampled_from(TASKS), min_size=1, unique=True), min_size=1, max_size=40),
    st.integers(1, 8),
    shares,
)
def test_every_image_and_task_keeps_a_question_and_the_total_stays(
    tasks: list[list[str]], questions: int, rates: dict[str, TaskShare]
) -> None:
    entries = [ManifestEntry(index=i, image=f"{i}.png", tasks=names) for i, names in enumerate(tasks)]
    counts = questions_each(entries, questions, rates)
    pairs = sum(len(names) for names in tasks)
    assert len(counts) == pairs
    assert min(counts.values()) >= 1
    assert abs(sum(counts.values()) - questions * pairs) <= len(TASKS)


def test_an_example_is_given_where_the_prompt_has_a_place_for_it() -> None:
    base = JobSpec.model_validate({"images": {"kind": "folder", "path": "x"}, "tasks": ["chartqa"]})
    spec = base.model_copy(update={"rounds": base.rounds.model_copy(update={"max": 2, "steer": True})})
    failed = {"chartqa": ["how many {bars}?", "what is the sum?"]}
    last = RoundReport(round=1, student="base", pairs=1, verdicts={}, failed_questions=failed)
    plan = RoundPlan(spec, 2, last)
    chosen = {plan.for_image(0, f"image-{n}", "chartqa").example for n in range(20)}
    assert chosen == set(failed["chartqa"])
    assert plan.for_image(0, "image", "textvqa").example == ""
    assert replace(plan, spec=base).for_image(0, "image-1", "chartqa").example == "", "only where it is asked for"
    for profile in BUILT_IN:
        for as_json in (False, True):
            for prompt in (profile.ask_prompt, profile.ask_and_answer_prompt):
                plain, led = prompt(as_json=as_json), prompt(as_json=as_json, example=failed["chartqa"][0])
                assert "example" not in plain
                assert led.replace(' Ask something like: "how many {bars}?"', "") == plain != led


def test_later_rounds_have_seeds_of_their_own() -> None:
    spec = JobSpec.model_validate({"images": {"kind": "folder", "path": "x"}, "tasks": ["chartqa"], "seed": 7})
    assert RoundPlan(spec).seed == 7
    assert len({RoundPlan(spec, number).seed for number in range(1, 11)}) == 10
