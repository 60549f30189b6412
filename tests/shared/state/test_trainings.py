"""The one lease on a job's training: its states, a resumed trainer, attempts, rounds, on a real Redis."""

from __future__ import annotations

from itertools import pairwise

import pytest

from shared.contracts import Evaluation, JobState, Outcome, RoundReport, TaskScore, TrainingProgress
from shared.errors import Conflict, LeaseLost, NotFound
from shared.state import JobStore
from tests.shared.state.conftest import Clock, collect_all, stored


async def start_training(jobs: JobStore) -> None:
    await jobs.create(stored())
    await collect_all(jobs)
    await jobs.transition("job-1", JobState.COLLECTING, JobState.TRAINING)


async def test_a_training_goes_through_its_states(jobs: JobStore, clock: Clock) -> None:
    await start_training(jobs)
    lease = await jobs.trainings.acquire("job-1", "t", 30, 3)
    assert lease is not None
    assert await jobs.trainings.acquire("job-1", "other", 30, 3) is None
    lease = await jobs.trainings.heartbeat(lease, 30, TrainingProgress(step=5, steps=10, loss=1.5, eta_seconds=7.0))
    status = await jobs.get("job-1")
    assert status.training is not None
    assert (status.training.step, status.eta_seconds) == (5, 7.0)
    evaluation = Evaluation(overall=TaskScore(questions=4, agreement_before=0.5, agreement_after=0.75), tasks={})
    await jobs.trainings.advance(lease, JobState.EVALUATING, checkpoint="job-job-1")
    await jobs.trainings.advance(lease, JobState.EVALUATING)
    await jobs.trainings.advance(lease, JobState.PROMOTING, evaluation=evaluation)
    await jobs.trainings.finish(lease, Outcome.PROMOTED, "better", checkpoint_url="file:///c")
    status = await jobs.get("job-1")
    assert (status.state, status.outcome, status.checkpoint) == (JobState.SUCCEEDED, Outcome.PROMOTED, "job-job-1")
    assert status.evaluation == evaluation
    assert status.finished_at is not None
    with pytest.raises(LeaseLost):
        await jobs.trainings.heartbeat(lease, 30)


async def test_a_resumed_trainer_repeats_steps_without_going_back(jobs: JobStore, clock: Clock) -> None:
    await start_training(jobs)
    first = await jobs.trainings.acquire("job-1", "t1", 30, 3)
    assert first is not None
    await jobs.trainings.advance(first, JobState.EVALUATING)
    await jobs.trainings.advance(first, JobState.PROMOTING)
    clock.pass_seconds(31)
    second = await jobs.trainings.acquire("job-1", "t2", 30, 3)
    assert second is not None
    assert second.attempt == 2
    with pytest.raises(LeaseLost):
        await jobs.trainings.finish(first, Outcome.KEPT, "late")
    await jobs.trainings.advance(second, JobState.EVALUATING)
    assert (await jobs.get("job-1")).state is JobState.PROMOTING
    await jobs.trainings.finish(second, Outcome.PROMOTED, "better")


async def test_a_training_that_keeps_failing_fails_the_job(jobs: JobStore, clock: Clock) -> None:
    await start_training(jobs)
    for attempt in (1, 2):
        lease = await jobs.trainings.acquire("job-1", "t", 30, 2)
        assert lease is not None
        assert await jobs.trainings.fail(lease, "out of memory", 2) is (attempt == 2)
    status = await jobs.get("job-1")
    assert (status.state, status.last_error) == (JobState.FAILED, "out of memory")


async def test_a_trainer_that_vanishes_too_often_fails_the_job(jobs: JobStore, clock: Clock) -> None:
    await start_training(jobs)
    for _ in range(2):
        assert await jobs.trainings.claim_due("job-1", 30, True, 2)
        assert await jobs.trainings.acquire("job-1", "t", 30, 2) is not None
        clock.pass_seconds(31)
    assert not await jobs.trainings.claim_due("job-1", 30, True, 2)
    status = await jobs.get("job-1")
    assert status.state is JobState.FAILED
    assert "stopped answering" in (status.last_error or "")


async def test_a_training_given_back_costs_no_attempt(jobs: JobStore) -> None:
    await start_training(jobs)
    first = await jobs.trainings.acquire("job-1", "t1", 30, 1)
    assert first is not None
    await jobs.trainings.release(first)
    assert first.ending.is_set()
    second = await jobs.trainings.acquire("job-1", "t2", 30, 1)
    assert second is not None
    assert second.attempt == 1
    with pytest.raises(LeaseLost):
        await jobs.trainings.heartbeat(first, 30)


async def test_the_next_round_collects_again_with_all_its_attempts(jobs: JobStore) -> None:
    await start_training(jobs)
    lease = await jobs.trainings.acquire("job-1", "t", 30, 1)
    assert lease is not None
    report = RoundReport(round=1, student="base", pairs=12, verdicts={}, failed_questions={"chart": ["why?"]})
    with pytest.raises(Conflict, match="training"):
        await jobs.trainings.next_round(lease, [report])
    await jobs.trainings.advance(lease, JobState.EVALUATING, checkpoint="job-job-1-round-1")
    await jobs.trainings.next_round(lease, [report])
    status = await jobs.get("job-1")
    assert (status.state, status.round, status.images.done) == (JobState.COLLECTING, 2, 0)
    assert status.past_rounds == [report.model_copy(update={"failed_questions": {}})]
    assert status.checkpoint == "job-job-1-round-1"
    assert (await jobs.snapshot("job-1")).training.attempts == 0
    with pytest.raises(LeaseLost, match="collecting"):
        await jobs.trainings.heartbeat(lease, 30)


async def test_only_news_of_a_training_raises_the_version(jobs: JobStore) -> None:
    await start_training(jobs)
    lease = await jobs.trainings.acquire("job-1", "t", 30, 3)
    assert lease is not None
    progress = TrainingProgress(step=1, steps=10, loss=1.5)
    seen = [await jobs.version("job-1")]
    for news in ({"progress": progress}, {"progress": progress}, {}, {"waiting_for": "the student"}, {}):
        await jobs.trainings.heartbeat(lease, 30, **news)
        seen.append(await jobs.version("job-1"))
    grown = [after - before for before, after in pairwise(seen)]
    assert grown == [1, 0, 0, 1, 1]
    status = await jobs.get("job-1")
    assert (status.training, status.waiting_for) == (progress, None)


async def test_a_job_that_is_not_in_training_gives_no_lease(jobs: JobStore) -> None:
    await jobs.create(stored())
    assert await jobs.trainings.acquire("job-1", "t", 30, 3) is None
    assert not await jobs.trainings.claim_due("job-1", 30, True, 3)
    with pytest.raises(NotFound):
        await jobs.trainings.acquire("x", "t", 30, 3)
