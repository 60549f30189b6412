"""What can go wrong in a training, and whether another try can help."""

from __future__ import annotations

from shared.errors import BadCheckpoint, Damaged, InvalidInput, MPAError


class TrainingDiverged(MPAError):
    """The loss became NaN or infinite, or stayed worse than guessing. The last saved step is still good."""

    status, slug, title = 500, "training-diverged", "The training diverged"


class TrainingCrashed(MPAError):
    """The training process ended without a report: killed, out of memory, or a crash of native code."""

    status, slug, title = 500, "training-crashed", "The training process died"


class NothingTrained(MPAError):
    """All weights are stored as before the training."""

    status, slug, title = 422, "nothing-trained", "The training changed nothing"


_FINAL = (NothingTrained, TrainingDiverged, BadCheckpoint, Damaged, InvalidInput)


def can_be_retried(error: Exception) -> bool:
    """False if the same input would fail in the same way again."""
    return not isinstance(error, _FINAL)
