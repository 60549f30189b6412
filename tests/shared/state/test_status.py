"""What a user sees of a job: sums over shard records, rates, what it waits for, and how long each state took."""

from __future__ import annotations

import dataclasses

import pytest

from shared.contracts import JobState, Verdict
from shared.state import (
    JobInfo,
    JobStore,
    ShardRecord,
    ShardResult,
    Snapshot,
    TrainingRecord,
    WorkStatus,
    seconds_by_state,
    shards_done,
    to_status,
    train_disparities,
)
from shared.state.records import replace
from tests.shared.state.conftest import RESULT, Clock, stored


async def test_the_first_shard_taken_starts_collecting_and_counts_add_up(jobs: JobStore, clock: Clock) -> None:
    await jobs.create(stored())
    lease = await jobs.shards.acquire("job-1", 0, "w", 30, 5)
    assert lease is not None
    clock.pass_seconds(2)
    await jobs.shards.heartbeat(lease, 30, ShardResult(images=2, verdicts={"disparity": 2}))
    status = await jobs.get("job-1")
    assert (status.state, status.images.done, status.shards.done) == (JobState.COLLECTING, 2, 0)
    assert status.rate_images_per_second == 1.0
    assert status.eta_seconds == 8.0
    await jobs.shards.complete(lease, RESULT)
    status = await jobs.get("job-1")
    assert (status.images.done, status.shards.done, status.pairs) == (4, 1, 4)
    assert status.verdicts[Verdict.DISPARITY] == 3
    assert status.teacher_tokens.prompt == 40


async def test_what_a_job_waits_for_is_told(jobs: JobStore, clock: Clock) -> None:
    await jobs.create(stored())
    assert (await jobs.get("job-1")).waiting_for is None
    clock.pass_seconds(11)
    assert "parity worker" in ((await jobs.get("job-1")).waiting_for or "")
    lease = await jobs.shards.acquire("job-1", 0, "w", 30, 5)
    assert lease is not None
    await jobs.shards.heartbeat(lease, 30, None, "teacher at http://t: down")
    assert (await jobs.get("job-1")).waiting_for == "teacher at http://t: down"
    await jobs.shards.heartbeat(lease, 30, None, None)
    assert (await jobs.get("job-1")).waiting_for is None


def snapshot(state: JobState, history: list[tuple[JobState, float]], now: float, **changes: object) -> Snapshot:
    info = JobInfo(history=tuple((str(name), at) for name, at in history))
    new = Snapshot(stored(), state, info, TrainingRecord(), {}, version=1, updated=now, now=now)
    return dataclasses.replace(new, **changes)  # type: ignore[arg-type]


def test_a_retried_job_adds_up_the_time_of_both_runs() -> None:
    history = [
        (JobState.QUEUED, 0.0),
        (JobState.COLLECTING, 5.0),
        (JobState.FAILED, 12.5),
        (JobState.COLLECTING, 100.0),
        (JobState.TRAINING, 101.0),
    ]
    assert seconds_by_state(snapshot(JobState.TRAINING, history, 161.25)) == {
        "queued": 5.0,
        "collecting": 8.5,
        "training": 60.25,
    }


def test_the_rate_counts_only_images_of_this_run_until_collecting_ended() -> None:
    history = [(JobState.QUEUED, 0.0), (JobState.COLLECTING, 10.0), (JobState.TRAINING, 14.0)]
    shards = {0: ShardRecord(status=WorkStatus.DONE, result=RESULT), 1: ShardRecord(progress=ShardResult(images=4))}
    seen = snapshot(JobState.TRAINING, history, 1_000.0, shards=shards)
    seen = dataclasses.replace(seen, info=replace(seen.info, base_images=6))
    assert to_status(seen).rate_images_per_second == 0.5
    none_yet = dataclasses.replace(seen, info=replace(seen.info, base_images=8))
    assert to_status(none_yet).rate_images_per_second is None
    assert to_status(none_yet).eta_seconds is None


def test_the_latest_error_of_the_work_is_shown_unless_the_job_has_its_own() -> None:
    shards = {
        0: ShardRecord(error="older", error_at=3.0),
        1: ShardRecord(error="newer", error_at=4.0),
        2: ShardRecord(error_at=9.0),
    }
    seen = snapshot(JobState.COLLECTING, [(JobState.COLLECTING, 0.0)], 10.0, shards=shards)
    assert to_status(seen).last_error == "newer"
    own = dataclasses.replace(seen, info=replace(seen.info, last_error="the job's own"))
    assert to_status(own).last_error == "the job's own"


@pytest.mark.parametrize(
    ("seconds", "held", "expected"),
    [(9.0, False, None), (11.0, False, "a free trainer"), (11.0, True, None)],
)
def test_a_training_that_no_trainer_takes_is_said_so(seconds: float, held: bool, expected: str | None) -> None:
    training = TrainingRecord(status=WorkStatus.LEASED, expires=1e9) if held else TrainingRecord()
    history = [(JobState.QUEUED, 0.0), (JobState.TRAINING, 100.0)]
    waiting = to_status(snapshot(JobState.TRAINING, history, 100.0 + seconds, training=training)).waiting_for
    assert waiting is None if expected is None else expected in (waiting or "")


def test_only_shards_of_the_current_round_count_as_progress() -> None:
    """Pairs and tokens are those of all rounds; images and shards those of the round."""
    shards = {index: ShardRecord(status=WorkStatus.DONE, result=RESULT) for index in (0, 1, 2, 3)}
    seen = snapshot(JobState.COLLECTING, [(JobState.COLLECTING, 0.0)], 10.0, shards=shards)
    status = to_status(dataclasses.replace(seen, info=replace(seen.info, round=2)))
    assert (status.images.done, status.shards.done, status.pairs, status.teacher_tokens.prompt) == (4, 1, 16, 160)
    assert train_disparities(seen) == 6
    assert shards_done(seen)
    assert not shards_done(dataclasses.replace(seen, info=replace(seen.info, round=2)))


def test_fields_of_a_later_release_do_not_break_the_status() -> None:
    training = TrainingRecord(progress={"step": 1, "steps": 2, "loss": 0.5, "eta_seconds": 3.0, "invented_later": 1})
    status = to_status(snapshot(JobState.TRAINING, [(JobState.TRAINING, 0.0)], 1.0, training=training))
    assert status.training is not None
    assert (status.training.step, status.eta_seconds) == (1, 3.0)
