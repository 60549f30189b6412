"""The states of a job."""

from __future__ import annotations

from shared.contracts import JobState


def test_final_states() -> None:
    assert {s for s in JobState if s.is_final} == {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}
