"""The loss against its definition, and its gradient against finite differences."""

from __future__ import annotations

import math

import pytest
import torch

from services.trainer.losses import IGNORE, PLAIN, Predictions, Term, alignment_loss, answer_cross_entropy


def predictions(logits: torch.Tensor, labels: torch.Tensor) -> Predictions:
    ones = torch.ones(len(labels))
    return Predictions(logits, labels, torch.zeros(len(labels), dtype=torch.bool), ones)


def test_cross_entropy_is_the_mean_over_answer_tokens() -> None:
    logits = torch.zeros(2, 3, 4)
    logits[0, 1, 2] = math.log(3)
    labels = torch.tensor([[IGNORE, 2, 0], [1, IGNORE, IGNORE]])
    found = answer_cross_entropy(predictions(logits, labels))
    assert found.tolist() == pytest.approx([(math.log(2) + math.log(4)) / 2, math.log(4)])


def test_a_long_answer_counts_as_much_as_a_short_one() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 6, 5)
    labels = torch.full((2, 6), IGNORE)
    labels[0], labels[1, 0] = torch.tensor([0, 1, 2, 3, 4, 0]), 2
    single = [alignment_loss(predictions(logits[i : i + 1], labels[i : i + 1])) for i in range(2)]
    assert alignment_loss(predictions(logits, labels)).item() == pytest.approx(sum(x.item() for x in single) / 2)


def test_terms_add_up_with_their_weights() -> None:
    logits, labels = torch.randn(3, 2, 5), torch.tensor([[1, 2], [3, IGNORE], [0, 4]])
    given = predictions(logits, labels)
    twice = (*PLAIN, Term("more", 0.5, answer_cross_entropy))
    assert alignment_loss(given, twice).item() == pytest.approx(1.5 * alignment_loss(given).item())


def test_sample_weights_scale_samples() -> None:
    logits, labels = torch.randn(2, 2, 5), torch.tensor([[1, 2], [3, 4]])
    only_first = Predictions(logits, labels, torch.zeros(2, dtype=torch.bool), torch.tensor([2.0, 0.0]))
    assert alignment_loss(only_first).item() == pytest.approx(
        answer_cross_entropy(predictions(logits, labels))[0].item()
    )


def test_gradient() -> None:
    labels = torch.tensor([[IGNORE, 2], [1, 0]])
    logits = torch.randn(2, 2, 4, dtype=torch.float64, requires_grad=True)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return alignment_loss(predictions(x, labels))

    assert torch.autograd.gradcheck(loss, (logits,), eps=1e-2, atol=1e-3)
