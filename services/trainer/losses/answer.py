"""Cross-entropy of the teacher's answer: the paper's supervised fine-tuning, arXiv 2509.16633."""

from __future__ import annotations

from torch import Tensor

from services.trainer.losses.predictions import Predictions, TargetKind


def answer_cross_entropy(predictions: Predictions) -> Tensor:
    """Cross-entropy of the answer, mean over its tokens so that long answers do not count more: [B], nats."""
    return predictions.mean_loss(TargetKind.ANSWER)
