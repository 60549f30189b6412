"""The alignment loss: the terms of a spec, their sum and the weights of samples."""

from __future__ import annotations

import math

import pytest
import torch

from services.trainer.losses import IGNORE, PLAIN, TargetKind, Term, TopTokens, alignment_loss, terms_of
from services.trainer.losses.answer import answer_cross_entropy
from shared.contracts import LossSpec
from tests.services.trainer.losses.small_predictions import predictions


def test_a_long_answer_counts_as_much_as_a_short_one() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 6, 5)
    labels = torch.full((2, 6), IGNORE)
    labels[0], labels[1, 0] = torch.tensor([0, 1, 2, 3, 4, 0]), 2
    single = [alignment_loss(predictions(logits[i : i + 1], labels[i : i + 1]))[0] for i in range(2)]
    assert alignment_loss(predictions(logits, labels))[0].item() == pytest.approx(sum(x.item() for x in single) / 2)


def test_terms_add_up_with_their_weights() -> None:
    logits, labels = torch.randn(3, 2, 5), torch.tensor([[1, 2], [3, IGNORE], [0, 4]])
    made = predictions(logits, labels)
    plain, means = alignment_loss(made)
    assert means == {"answer": pytest.approx(plain.item())}
    twice, both = alignment_loss(made, (*PLAIN, Term("more", 0.5, answer_cross_entropy)))
    assert twice.item() == pytest.approx(1.5 * plain.item())
    assert both["more"] == pytest.approx(plain.item())


def test_sample_weights_scale_samples() -> None:
    logits, labels = torch.randn(2, 2, 5), torch.tensor([[1, 2], [3, 4]])
    only_first = predictions(logits, labels, weights=torch.tensor([2.0, 0.0]))
    expected = answer_cross_entropy(predictions(logits, labels))[0].item()
    assert alignment_loss(only_first)[0].item() == pytest.approx(expected)


def test_terms_of_weight_zero_are_left_out() -> None:
    assert [term.name for term in terms_of(LossSpec())] == ["answer"]
    every = terms_of(LossSpec(consistency=0.1, rationale=0.2, attention=0.3))
    assert [(term.name, term.weight) for term in every] == [
        ("answer", 1.0),
        ("consistency", 0.1),
        ("rationale", 0.2),
        ("attention", 0.3),
    ]


def test_weights_that_alter_a_gradient_scale_it() -> None:
    labels, logits = torch.tensor([[1, 2], [3, 4]]), torch.randn(2, 2, 5, requires_grad=True)
    (plain,) = torch.autograd.grad(alignment_loss(predictions(logits, labels))[0], logits)
    heavy = predictions(logits, labels, weights=torch.tensor([3.0, 0.5]))
    (weighed,) = torch.autograd.grad(alignment_loss(heavy)[0], logits)
    assert torch.allclose(weighed, plain * torch.tensor([3.0, 0.5])[:, None, None])


def test_half_precision_logits_give_single_precision_losses() -> None:
    labels = torch.tensor([[1, 2], [3, 0], [0, 4]])
    rows = {
        "sample": torch.tensor([0, 0, 1]),
        "kind": torch.tensor([TargetKind.ANSWER, TargetKind.CANDIDATE, TargetKind.ANSWER]),
    }
    made = predictions(
        torch.randn(3, 2, 5).bfloat16(),
        labels,
        **rows,
        is_replay=torch.zeros(2),
        weights=torch.ones(2),
        shares=torch.tensor([0.7, 0.3, math.nan]),
        top=TopTokens(torch.zeros(3, 2, 1, dtype=torch.long), torch.full((3, 2, 1), -0.5)),
        teacher_maps=torch.rand(2, 4),
        student_maps=torch.rand(2, 4).bfloat16(),
    )
    every = terms_of(LossSpec(consistency=0.1, rationale=0.2, attention=0.3))
    assert all(term.compute(made).dtype == torch.float32 for term in every)
    assert torch.isfinite(alignment_loss(made, every)[0])
