"""Jensen-Shannon divergence of attention maps."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from services.trainer.losses.attention import attention_divergence, jensen_shannon
from tests.services.trainer.losses.small_predictions import check_gradient, predictions


def test_jensen_shannon_is_zero_for_equal_maps_and_one_for_disjoint_ones() -> None:
    one = torch.tensor([[0.5, 0.5, 0.0, 0.0]])
    other = torch.tensor([[0.0, 0.0, 0.5, 0.5]])
    assert jensen_shannon(one, one).item() == pytest.approx(0.0, abs=1e-6)
    assert jensen_shannon(one, other).item() == pytest.approx(1.0, abs=1e-5)


def test_samples_without_both_maps_have_no_attention_loss() -> None:
    teacher = torch.tensor([[0.9, 0.1], [math.nan, math.nan]])
    student = torch.tensor([[0.2, 0.8], [0.5, 0.5]])
    made = predictions(
        torch.zeros(2, 1, 3), torch.ones(2, 1, dtype=torch.long), teacher_maps=teacher, student_maps=student
    )
    assert attention_divergence(made).tolist() == pytest.approx([jensen_shannon(teacher, student)[0].item(), 0.0])


def test_the_gradient_of_attention() -> None:
    teacher = torch.rand(2, 6).softmax(-1)

    def loss(x: Tensor) -> Tensor:
        labels = torch.ones(2, 1, dtype=torch.long)
        maps = {"teacher_maps": teacher, "student_maps": x.softmax(-1)}
        return attention_divergence(predictions(torch.zeros(2, 1, 3, dtype=torch.float64), labels, **maps)).sum()

    check_gradient(loss, torch.randn(2, 6))
