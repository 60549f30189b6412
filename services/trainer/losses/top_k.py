"""Token-level consistency: the divergence of the student's next-token distribution from the teacher's top k.

Servers tell at most twenty alternatives a token. Renormalising them would teach the student that nothing else exists
(the biased handling that Anshumann et al. describe, "Sparse Logit Sampling", arXiv 2503.16870); instead all that is not
among them is one more bucket, the tail, on both sides:

    KL = Σ_k p_k (log p_k - log q_k) + p_tail (log p_tail - log q_tail),   p_tail = 1 - Σ p_k,   q_tail = 1 - Σ q_k

That is the exact divergence of the two distributions seen through the same k + 1 buckets: a lower bound of the full one
(log-sum inequality), zero where the student equals the teacher, with no pull on how the tail is spread.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from services.trainer.losses.predictions import IGNORE, Kind, Predictions

_SURE = -1e-7
"""Largest log of the sum of the student's top-k probabilities: float32 cannot tell a smaller tail from none."""


def top_k_divergence(predictions: Predictions) -> Tensor:
    """KL(teacher ‖ student) over top k and tail, mean over the answer's tokens that have it: [B], nats, ≥ 0."""
    top = predictions.top
    if top is None:
        return predictions.logits.new_zeros(predictions.samples, dtype=torch.float32)
    known = (top.logprobs > -math.inf).any(-1) & (predictions.labels != IGNORE)
    values = torch.zeros(predictions.labels.shape, dtype=torch.float32, device=predictions.labels.device)
    values[known] = bucket_divergence(predictions.logits[known], top.ids[known], top.logprobs[known])
    rows = (predictions.kind == Kind.ANSWER) & known.any(1)
    means = values.sum(1) / known.sum(1).clamp(min=1)
    return predictions.by_sample(means[rows], rows)


def bucket_divergence(logits: Tensor, ids: Tensor, logprobs: Tensor) -> Tensor:
    """KL over k + 1 buckets for N positions: ``logits`` [N, V], ``ids`` and ``logprobs`` [N, K] → [N], nats."""
    student = logits.float().log_softmax(-1).gather(1, ids)
    listed = logprobs > -math.inf
    teacher = logprobs.float().masked_fill(~listed, 0.0)
    shares = teacher.exp() * listed
    inside = (shares * (teacher - student)).sum(1)
    tail = (1 - shares.sum(1)).clamp(min=0)
    student_tail = _log1mexp(student.masked_fill(~listed, -math.inf).logsumexp(1).clamp(max=_SURE))
    outside = torch.where(tail > 0, tail * (tail.clamp(min=1e-12).log() - student_tail), torch.zeros_like(tail))
    return inside + outside


def _log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(x)) for x < 0, by the branch that loses no digits (Mächler 2012)."""
    small = x > -math.log(2)
    # both branches get harmless values where the other one counts: torch.where passes NaN gradients on
    near = torch.log(-torch.expm1(torch.where(small, x, torch.full_like(x, -0.5))))
    far = torch.log1p(-torch.exp(torch.where(small, torch.full_like(x, -1.0), x)))
    return torch.where(small, near, far)
