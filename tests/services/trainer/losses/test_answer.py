"""The cross-entropy of answers."""

from __future__ import annotations

import math

import pytest
import torch

from services.trainer.losses import IGNORE, alignment_loss
from services.trainer.losses.answer import answer_cross_entropy
from tests.services.trainer.losses.small_predictions import check_gradient, predictions


def test_cross_entropy_is_the_mean_over_answer_tokens() -> None:
    logits = torch.zeros(2, 3, 4)
    logits[0, 1, 2] = math.log(3)
    labels = torch.tensor([[IGNORE, 2, 0], [1, IGNORE, IGNORE]])
    found = answer_cross_entropy(predictions(logits, labels))
    assert found.tolist() == pytest.approx([(math.log(2) + math.log(4)) / 2, math.log(4)])


def test_the_gradient_of_cross_entropy() -> None:
    labels = torch.tensor([[IGNORE, 2], [1, 0]])
    check_gradient(lambda x: alignment_loss(predictions(x, labels))[0], torch.randn(2, 2, 4))
