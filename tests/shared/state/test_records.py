"""Records survive JSON, and the state machine allows what it should and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts import JobState
from shared.errors import Conflict
from shared.state import LEGAL, JobInfo, ShardRecord, ShardResult, TrainingRecord, WorkStatus
from shared.state.records import check_transition, is_past

results = st.builds(
    ShardResult,
    images=st.integers(0, 10_000),
    verdicts=st.dictionaries(st.sampled_from(["disparity", "refused"]), st.integers(1, 99)),
    causes=st.dictionaries(st.sampled_from(["empty", "declined"]), st.integers(1, 99)),
    prompt_tokens=st.integers(0, 2**40),
)
shards = st.builds(
    ShardRecord,
    status=st.sampled_from(WorkStatus),
    attempts=st.integers(0, 9),
    owner=st.text(max_size=9),
    token=st.text(max_size=9),
    expires=st.floats(0, 2e9),
    queued=st.booleans(),
    error=st.none() | st.text(max_size=20),
    progress=st.none() | results,
    result=st.none() | results,
)


@given(shards)
def test_shards_survive_json(shard: ShardRecord) -> None:
    assert ShardRecord.load(shard.dump()) == shard


@given(st.floats(0, 2e9), st.none() | st.text(max_size=20))
def test_trainings_and_infos_survive_json(at: float, error: str | None) -> None:
    training = TrainingRecord(due=at, error=error, progress={"step": 3, "loss": None})
    info = JobInfo(history=(("queued", at), ("collecting", at)), last_error=error)
    assert TrainingRecord.load(training.dump()) == training
    assert JobInfo.load(info.dump()) == info


def test_a_record_without_news_is_empty() -> None:
    assert ShardRecord().dump() == "{}"
    assert ShardRecord.load(None) == ShardRecord()


@pytest.mark.parametrize("current", list(JobState))
@pytest.mark.parametrize("to", list(JobState))
def test_only_legal_transitions_pass(current: JobState, to: JobState) -> None:
    if to in LEGAL[current]:
        check_transition("j", current, to)
    else:
        with pytest.raises(Conflict, match=f"is {current}"):
            check_transition("j", current, to)


def test_success_is_final_and_a_promotion_cannot_be_cancelled() -> None:
    assert not LEGAL[JobState.SUCCEEDED]
    assert JobState.CANCELLED not in LEGAL[JobState.PROMOTING]


def test_a_repeated_step_is_recognised() -> None:
    assert is_past(JobState.PROMOTING, JobState.EVALUATING)
    assert is_past(JobState.EVALUATING, JobState.EVALUATING)
    assert not is_past(JobState.TRAINING, JobState.EVALUATING)
