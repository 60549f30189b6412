"""Divergence over candidate answers: vote shares against sequence probabilities."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from services.trainer.losses import IGNORE, Predictions, TargetKind
from services.trainer.losses.candidates import candidate_divergence, vote_shares
from tests.services.trainer.losses.small_predictions import check_gradient, predictions


def candidate_rows(logits: Tensor) -> Predictions:
    """Sample 0 with three candidates of one or two tokens, sample 1 with none."""
    labels = torch.tensor([[1, IGNORE], [2, 0], [3, IGNORE], [1, 2]])
    return predictions(
        logits,
        labels,
        sample=torch.tensor([0, 0, 0, 1]),
        kind=torch.tensor([TargetKind.ANSWER, TargetKind.CANDIDATE, TargetKind.CANDIDATE, TargetKind.ANSWER]),
        is_replay=torch.zeros(2, dtype=torch.bool),
        weights=torch.ones(2),
        shares=torch.tensor([0.6, 0.3, 0.1, math.nan]),
    )


def test_candidates_are_compared_by_their_sequence_probabilities() -> None:
    torch.manual_seed(3)
    logits = torch.randn(4, 2, 5)
    logprobs = logits.log_softmax(-1)
    whole = torch.stack([logprobs[0, 0, 1], logprobs[1, 0, 2] + logprobs[1, 1, 0], logprobs[2, 0, 3]])
    shares = torch.tensor([0.6, 0.3, 0.1])
    expected = (shares * (shares.log() - whole.log_softmax(0))).sum()
    assert candidate_divergence(candidate_rows(logits)).tolist() == pytest.approx([expected.item(), 0.0], abs=1e-5)


def test_the_gradient_of_candidates() -> None:
    check_gradient(lambda x: candidate_divergence(candidate_rows(x)).sum(), torch.randn(4, 2, 5))


def test_vote_shares_hold_the_answer_the_votes_and_what_the_student_said() -> None:
    shares = vote_shares("Red", ["red", "dark red", "red "], "blue")
    assert list(shares) == ["Red", "blue", "dark red"]
    assert shares["Red"] == pytest.approx(3.1 / 4.3)
    assert shares["blue"] == pytest.approx(0.1 / 4.3)
    assert vote_shares("red", ["red"], "RED") == {"red": 1.0}


@given(st.text(min_size=1, max_size=5), st.lists(st.text(max_size=5), max_size=16), st.none() | st.text(max_size=5))
def test_vote_shares_are_a_distribution(answer: str, votes: list[str], student: str | None) -> None:
    shares = vote_shares(answer, votes, student)
    assert next(iter(shares)) == answer
    assert 1 <= len(shares) <= 4
    assert sum(shares.values()) == pytest.approx(1.0)
    assert all(value > 0 for value in shares.values())
