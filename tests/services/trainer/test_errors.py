"""Whether another try can help a training that failed."""

from __future__ import annotations

import pytest

from services.trainer.errors import NothingTrained, TrainingCrashed, TrainingDiverged, can_be_retried
from shared.errors import BadCheckpoint, Conflict, InvalidInput, LeaseLost, NotFound, Unavailable


@pytest.mark.parametrize("kind", [NothingTrained, TrainingDiverged, BadCheckpoint, InvalidInput])
def test_the_same_input_would_fail_again(kind: type[Exception]) -> None:
    assert not can_be_retried(kind("x"))


@pytest.mark.parametrize("kind", [TrainingCrashed, Unavailable, NotFound, Conflict, LeaseLost, OSError, KeyError])
def test_another_try_may_succeed(kind: type[Exception]) -> None:
    assert can_be_retried(kind("x"))
