"""Pairs of some verdicts are made again; the others stay byte for byte, and what was acknowledged is not lost."""

from __future__ import annotations

from typing import Any

import pytest

from services.parity.jobs.rebuild import rebuild_all
from services.parity.jobs.redo import find_due, read_redo
from services.parity.worker.shard import ShardWork
from shared.client import ParityClient
from shared.contracts import JobState, Outcome, Verdict
from shared.errors import UpstreamError
from shared.sets import read_set, set_digest, shard_key, shard_numbers
from shared.sets.redone import redo_of
from shared.state import JobStore
from shared.store import Store
from tests.polling import async_wait_until
from tests.scripted_models import Body, image_of, text_of
from tests.services.parity.collecting import Model, Spec, collect, in_second_round

WORDS = "the image cannot be read"


@pytest.fixture
def bad_images(teacher: Model) -> set[str]:
    """Images that the teacher refuses, as long as they are in it: the first three that it sees."""
    seen: list[str] = []
    refused: set[str] = set()

    def refusal(body: Body) -> str | None:
        image = image_of(body)
        if image not in seen:
            seen.append(image)
            if len(seen) <= 3:
                refused.add(image)
        return WORDS if image in refused else None

    teacher[0].refusal = refusal
    return refused


async def _finish(jobs: JobStore, job_id: str, outcome: Outcome = Outcome.KEPT) -> None:
    """What the trainer does in a job without rounds, but for the training."""
    lease = await jobs.trainings.acquire(job_id, "trainer", 30, 3)
    assert lease is not None
    await jobs.trainings.advance(lease, JobState.EVALUATING)
    await jobs.trainings.finish(lease, outcome, "not better", checkpoint=f"job-{job_id}")


async def _succeeded(api: ParityClient, work: ShardWork, spec: dict[str, Any]) -> str:
    job_id = (await api.submit(spec)).id
    await collect(work, job_id)
    await _finish(work.jobs, job_id)
    return job_id


def _rows(store: Store, job_id: str) -> dict[str, dict[str, Any]]:
    return {row["pair_id"]: row for row in read_set(store, job_id).to_pylist()}


def _unpriced(row: dict[str, Any], job_id: str) -> dict[str, Any]:
    left_out = {"prompt_tokens", "completion_tokens", "saved_tokens", "job_id"}
    return {name: value for name, value in row.items() if name not in left_out}


async def test_only_those_pairs_are_made_again_and_the_job_trains_again(
    api: ParityClient, work: ShardWork, spec: Spec, store: Store, teacher: Model, bad_images: set[str]
) -> None:
    job_id = await _succeeded(api, work, spec())
    before = _rows(store, job_id)
    refused = {pair for pair, row in before.items() if row["verdict"] == Verdict.REFUSED}
    assert len(refused) == 6 and all(WORDS in before[pair]["reason"] for pair in refused)
    untouched = {
        number: store.read(shard_key(job_id, number))
        for number in shard_numbers(store, job_id)
        if not any(before[pair]["shard"] == number for pair in refused)
    }
    bad_images.clear()
    asked = len(teacher[0].requests)
    assert (await api.retry(job_id, ["refused", "unparsable"])).state is JobState.COLLECTING
    await collect(work, job_id)
    again = teacher[0].requests[asked:]
    assert len({image_of(body) for body in again}) == 3  # nothing is asked about other images
    after = _rows(store, job_id)
    assert {pair: row for pair, row in after.items() if pair not in refused} == {
        pair: row for pair, row in before.items() if pair not in refused
    }
    assert all(store.read(shard_key(job_id, number)) == data for number, data in untouched.items())
    assert not [row for row in after.values() if row["verdict"] == Verdict.REFUSED]
    # They are what they would have been without the trouble.
    calm = (await api.submit(spec())).id
    await collect(work, calm)
    assert set_digest(store, job_id) == set_digest(store, calm)
    status = await api.job(job_id)
    assert (status.state, status.outcome, status.checkpoint) == (JobState.TRAINING, None, None)
    await _finish(work.jobs, job_id, Outcome.PROMOTED)
    assert (await api.job(job_id)).outcome is Outcome.PROMOTED


async def test_what_changes_nothing_ends_the_job_as_before(
    api: ParityClient, work: ShardWork, spec: Spec, store: Store, bad_images: set[str]
) -> None:
    job_id = await _succeeded(api, work, spec())
    digest = set_digest(store, job_id)
    for _ in range(2):
        await api.retry(job_id, ["refused"])
        await collect(work, job_id)
        status = await api.job(job_id)
        assert (status.state, status.outcome, status.checkpoint) == (
            JobState.SUCCEEDED,
            Outcome.KEPT,
            f"job-{job_id}",
        )
        assert status.reason == "not better The pairs that were made again changed nothing."
        assert set_digest(store, job_id) == digest
    report = await async_wait_until(lambda: api.report(job_id))
    assert report.status.outcome is Outcome.KEPT and report.set_digest == digest


async def test_an_acknowledged_request_survives_the_loss_of_redis(
    api: ParityClient, work: ShardWork, spec: Spec, store: Store, bad_images: set[str]
) -> None:
    job_id = await _succeeded(api, work, spec())
    bad_images.clear()
    await api.retry(job_id, ["refused"])
    due = {number for number in shard_numbers(store, job_id) if find_due(store, job_id, number)}
    await work.run(job_id, min(due))
    await work.jobs._hash.redis.flushall()
    await rebuild_all(work.jobs, store)
    status = await work.jobs.get(job_id)
    assert status.state is JobState.COLLECTING
    assert status.shards.done == status.shards.total - len(due) + 1
    await collect(work, job_id)
    assert not [row for row in _rows(store, job_id).values() if row["verdict"] == Verdict.REFUSED]


async def test_a_question_that_was_refused_keeps_its_words(
    api: ParityClient, work: ShardWork, spec: Spec, store: Store, student: Model, teacher: Model
) -> None:
    hard: list[str] = []

    def refusal(body: Body) -> str | None:
        if not hard:
            hard.append(text_of(body))
        return "the prompt has too many tokens" if text_of(body) == hard[0] else None

    student[0].refusal = refusal
    job_id = await _succeeded(api, work, spec())
    before = _rows(store, job_id)
    refused = {pair for pair, row in before.items() if row["verdict"] == Verdict.REFUSED}
    assert refused and all(before[pair]["question"] == hard[0] for pair in refused)
    student[0].refusal = None
    asked = len(teacher[0].requests)
    await api.retry(job_id, ["refused"])
    await collect(work, job_id)
    assert not [body for body in teacher[0].requests[asked:] if text_of(body).startswith("ask")]
    after = _rows(store, job_id)
    assert all(after[pair]["question"] == hard[0] and after[pair]["student_answer"] for pair in refused)
    # What the pair had cost before is not forgotten.
    assert all(after[pair]["prompt_tokens"] >= before[pair]["prompt_tokens"] for pair in refused)


async def test_running_a_shard_twice_changes_nothing(
    api: ParityClient, work: ShardWork, spec: Spec, store: Store, bad_images: set[str]
) -> None:
    job_id = await _succeeded(api, work, spec())
    bad_images.clear()
    await api.retry(job_id, ["refused"])
    redo = read_redo(store, job_id)
    assert redo is not None and (redo.number, redo.before.state) == (1, JobState.SUCCEEDED)
    await collect(work, job_id)
    files = {number: store.read(shard_key(job_id, number)) for number in shard_numbers(store, job_id)}
    await collect(work, job_id)
    assert files == {number: store.read(shard_key(job_id, number)) for number in shard_numbers(store, job_id)}
    answered = {redo_of(store, job_id, number) for number in files}
    assert answered <= {0, 1} and 1 in answered


@pytest.mark.parametrize(
    ("verdicts", "status", "words"),
    [
        (["disparity"], 422, "pairs that are disparity are not made again: name refused, unparsable"),
        (["unparsable"], 409, "has no pair that is unparsable"),
        (["nonsense"], 422, "verdict"),
    ],
)
async def test_what_cannot_be_made_again_is_said(
    api: ParityClient, work: ShardWork, spec: Spec, verdicts: list[str], status: int, words: str
) -> None:
    job_id = await _succeeded(api, work, spec())
    with pytest.raises(UpstreamError, match=words) as refused:
        await api.retry(job_id, verdicts)
    assert refused.value.upstream_status == status
    assert (await api.job(job_id)).state is JobState.SUCCEEDED


async def test_a_job_that_still_runs_or_mines_in_rounds_is_left_alone(
    api: ParityClient, work: ShardWork, spec: Spec
) -> None:
    running = await api.submit(spec())
    with pytest.raises(UpstreamError, match="once it has succeeded or failed"):
        await api.retry(running.id, ["refused"])
    rounds = await in_second_round(api, work, spec(rounds={"max": 2, "min_disparity": 0.0, "min_gain": 0.0}))
    await work.jobs.fail(rounds.id, "for a test")
    with pytest.raises(UpstreamError, match="mines in rounds"):
        await api.retry(rounds.id, ["refused"])
