"""A batch as the terms see it: log-probabilities of its labels, and rows laid out by sample."""

from __future__ import annotations

import math

import pytest
import torch

from services.trainer.losses.predictions import IGNORE, TargetKind, precise
from tests.services.trainer.losses.small_predictions import check_gradient, predictions

LABELS = torch.tensor([[IGNORE, 2, 0], [1, IGNORE, IGNORE], [IGNORE, IGNORE, IGNORE]])


def test_log_probabilities_are_those_of_the_labels_and_0_elsewhere() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 3, 4)
    found = predictions(logits, LABELS).logprobs
    expected = logits.log_softmax(-1)
    assert found[0].tolist() == pytest.approx([0, expected[0, 1, 2].item(), expected[0, 2, 0].item()])
    assert found[1].tolist() == pytest.approx([expected[1, 0, 1].item(), 0, 0])
    assert found[2].tolist() == [0, 0, 0]


def test_a_mean_loss_is_over_the_tokens_of_a_row_of_the_kind() -> None:
    logits = torch.zeros(3, 3, 4)  # every token has a probability of 1/4
    kinds = torch.tensor([int(TargetKind.ANSWER), int(TargetKind.RATIONALE), int(TargetKind.ANSWER)])
    batch = predictions(
        logits, LABELS, kind=kinds, sample=torch.tensor([0, 0, 1]), is_replay=torch.zeros(2, dtype=torch.bool)
    )
    assert batch.mean_loss(TargetKind.ANSWER).tolist() == pytest.approx([math.log(4), 0])
    assert batch.mean_loss(TargetKind.RATIONALE).tolist() == pytest.approx([math.log(4), 0])
    assert batch.mean_loss(TargetKind.CANDIDATE).tolist() == [0, 0]


def test_rows_are_laid_out_by_sample() -> None:
    batch = predictions(torch.zeros(3, 3, 4), LABELS, sample=torch.tensor([2, 0, 1]))
    rows = torch.tensor([True, False, True])
    assert batch.by_sample(torch.tensor([5.0, 7.0]), rows).tolist() == [0, 7, 5]


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(half: torch.dtype) -> None:
    batch = predictions(torch.randn(3, 3, 4).to(half), LABELS)
    assert batch.logprobs.dtype == batch.zeros().dtype == precise(batch.logits).dtype == torch.float32
    assert precise(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64


def test_gradients_reach_the_logits_of_labels_only() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 3, 4)
    check_gradient(lambda x: predictions(x, LABELS).mean_loss(TargetKind.ANSWER).sum(), logits)
    used = logits.clone().requires_grad_(True)
    predictions(used, LABELS).mean_loss(TargetKind.ANSWER).sum().backward()
    assert used.grad is not None
    assert torch.equal(used.grad.abs().sum(-1) > 0, LABELS != IGNORE)
