"""Top-k divergence with a tail bucket, against the full divergence and finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from services.trainer.losses import IGNORE, TopTokens
from services.trainer.losses.top_k import bucket_divergence, top_k_divergence
from tests.services.trainer.losses.small_predictions import check_gradient, predictions


def full_divergence(teacher: Tensor, student: Tensor) -> Tensor:
    return (teacher.exp() * (teacher - student)).sum(-1)


def test_top_k_of_the_whole_vocabulary_is_the_full_divergence() -> None:
    torch.manual_seed(1)
    teacher, student = torch.randn(4, 6).log_softmax(-1), torch.randn(4, 6)
    ids = torch.arange(6).expand(4, 6)
    found = bucket_divergence(student, ids, teacher)
    assert torch.allclose(found, full_divergence(teacher, student.log_softmax(-1)), atol=1e-4)


@given(st.integers(1, 7), st.integers(0, 10_000))
def test_buckets_bound_the_full_divergence_from_below_and_vanish_at_the_teacher(k: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    teacher = (3 * torch.randn(3, 8, generator=generator)).log_softmax(-1)
    student = 3 * torch.randn(3, 8, generator=generator)
    top = teacher.topk(k, -1)
    found = bucket_divergence(student, top.indices, top.values)
    assert (found >= -1e-4).all()
    assert (found <= full_divergence(teacher, student.log_softmax(-1)) + 1e-4).all()
    assert bucket_divergence(teacher, top.indices, top.values).abs().max() < 1e-4


def test_the_tail_is_pulled_as_a_whole_and_not_in_its_parts() -> None:
    teacher = torch.tensor([[0.5, 0.2, 0.2, 0.1]]).log()
    ids, values = torch.tensor([[0, 1]]), teacher[:, :2]
    spread_otherwise = torch.tensor([[0.5, 0.2, 0.05, 0.25]]).log()
    assert bucket_divergence(spread_otherwise, ids, values).item() == pytest.approx(0.0, abs=1e-6)
    renormalised = torch.tensor([[5 / 7, 2 / 7, 1e-9, 1e-9]]).log()
    assert bucket_divergence(renormalised, ids, values).item() > 1.0


def test_padding_of_alternatives_counts_for_nothing() -> None:
    logits = torch.randn(1, 5)
    ids, values = torch.tensor([[3, 1]]), torch.tensor([[-0.3, -2.0]])
    padded = torch.tensor([[3, 1, 0, 0]]), torch.tensor([[-0.3, -2.0, -math.inf, -math.inf]])
    assert torch.allclose(bucket_divergence(logits, ids, values), bucket_divergence(logits, *padded))


def test_the_gradient_of_top_k() -> None:
    torch.manual_seed(2)
    labels = torch.tensor([[IGNORE, 2, 1], [1, IGNORE, IGNORE]])
    teacher = torch.randn(2, 3, 6).log_softmax(-1).topk(3, -1)
    values = teacher.values.clone()
    values[0, 2] = -math.inf  # a position that the teacher said nothing of
    top = TopTokens(teacher.indices, values)
    check_gradient(lambda x: top_k_divergence(predictions(x, labels, top=top)).sum(), torch.randn(2, 3, 6))


def test_the_gradient_of_the_buckets_is_that_of_the_summed_tail() -> None:
    """q - p for a listed token; for the others their part of the tail's q - p."""
    torch.manual_seed(4)
    logits = torch.randn(1, 6, dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([[0.6, 0.3]], dtype=torch.float64)
    bucket_divergence(logits, torch.tensor([[4, 1]]), teacher.log()).sum().backward()
    student = logits.detach().softmax(-1)[0]
    listed = torch.zeros(6, dtype=torch.float64)
    listed[[4, 1]] = teacher[0]
    others = torch.tensor([True, False, True, True, False, True])
    expected = torch.where(others, student - 0.1 * student / student[others].sum(), student - listed)
    assert torch.allclose(logits.grad[0], expected)  # type: ignore[index]


@pytest.mark.parametrize("lead", [5.0, 20.0, 60.0])
def test_a_student_whose_tail_is_tiny_is_still_pulled_to_the_teachers(lead: float) -> None:
    logits = torch.tensor([[lead, 0.0, 0.0]], requires_grad=True)
    loss = bucket_divergence(logits, torch.tensor([[0]]), torch.tensor([[math.log(0.5)]])).sum()
    loss.backward()
    tail = math.log(2) - math.log(math.exp(lead) + 2)
    head = lead - math.log(math.exp(lead) + 2)
    assert loss.item() == pytest.approx(-math.log(2) - 0.5 * (head + tail), rel=1e-5)
    assert logits.grad[0, 0].item() == pytest.approx(0.5, abs=0.02)  # type: ignore[index]


def test_a_teacher_without_a_tail_over_the_whole_vocabulary_gives_finite_gradients() -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    loss = bucket_divergence(logits, torch.arange(3).expand(2, 3), torch.randn(2, 3).log_softmax(-1)).sum()
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()  # type: ignore[arg-type]
