"""The cross-entropy of rationales."""

from __future__ import annotations

import pytest
import torch

from services.trainer.losses import TargetKind
from services.trainer.losses.answer import answer_cross_entropy
from services.trainer.losses.rationale import rationale_cross_entropy
from tests.services.trainer.losses.small_predictions import check_gradient, predictions


def test_a_rationale_is_its_samples_and_no_answer() -> None:
    logits, labels = torch.randn(3, 2, 5), torch.tensor([[1, 2], [3, 0], [0, 4]])
    rows = {
        "sample": torch.tensor([0, 0, 1]),
        "kind": torch.tensor([TargetKind.ANSWER, TargetKind.RATIONALE, TargetKind.ANSWER]),
    }
    made = predictions(logits, labels, **rows, is_replay=torch.zeros(2), weights=torch.ones(2))
    expected = answer_cross_entropy(predictions(logits, labels))
    assert rationale_cross_entropy(made).tolist() == pytest.approx([expected[1].item(), 0.0])
    assert answer_cross_entropy(made).tolist() == pytest.approx([expected[0].item(), expected[2].item()])
    check_gradient(
        lambda x: rationale_cross_entropy(predictions(x, labels, **rows, is_replay=torch.zeros(2))).sum(), logits
    )
