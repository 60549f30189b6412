"""Cross-entropy of the teacher's rationale, asked for with the task's ``explain`` prompt.

The rationale is a target of its own with a prompt of its own, so the student does not learn to give long answers to
questions: after Hsieh et al., "Distilling Step-by-Step!" (arXiv 2305.02301), who train label and rationale as
two tasks told apart by the prompt.
"""

from __future__ import annotations

from torch import Tensor

from services.trainer.losses.predictions import Predictions, TargetKind


def rationale_cross_entropy(predictions: Predictions) -> Tensor:
    """Cross-entropy of the rationale, mean over its tokens: [B], nats, 0 for samples that have none."""
    return predictions.mean_loss(TargetKind.RATIONALE)
