"""Token-level consistency: the divergence of the student's next-token distribution from the teacher's top k.

Servers tell at most twenty alternatives a token. Renormalising them would teach the student that nothing else exists
(the biased handling that Anshumann et al. describe, "Sparse Logit Sampling", arXiv 2503.16870); instead all that is not
among them is one more bucket, the tail, on both sides:

    KL = Σ_k p_k (log p_k - log q_k) + p_tail (log p_tail - log q_tail),   p_tail = 1 - Σ p_k,   q_tail = 1 - Σ q_k

That is the exact divergence of the two distributions seen through the same k + 1 buckets: a lower bound of the full one
(log-sum inequality), zero where the student equals the teacher, with no pull on how the tail is spread. TRL's
distillation trainers add the same bucket (``loss_add_tail``), as log(1 - exp(log Σ q)) with the sum clamped under 1,
which is blind to tails under 1e-7: there the gradient ends. Here the whole distribution of the student is at hand, so
its tail is summed from the logits that are not listed, and is exact however small.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from services.trainer.losses.predictions import IGNORE, Kind, Predictions, precise

_NO_TAIL = -100.0
"""Log-probability of the student's tail where the alternatives are its whole vocabulary: finite, for 0 · it to be 0."""


def top_k_divergence(predictions: Predictions) -> Tensor:
    """KL(teacher ‖ student) over top k and tail, mean over the answer's tokens that have it: [B], nats, ≥ 0."""
    top = predictions.top
    if top is None:
        return predictions.zeros()
    known = (top.logprobs > -math.inf).any(-1) & (predictions.labels != IGNORE)
    values = predictions.zeros(*predictions.labels.shape)
    values[known] = bucket_divergence(predictions.logits[known], top.ids[known], top.logprobs[known])
    rows = (predictions.kind == Kind.ANSWER) & known.any(1)
    means = values.sum(1) / known.sum(1).clamp(min=1)
    return predictions.by_sample(means[rows], rows)


def bucket_divergence(logits: Tensor, ids: Tensor, logprobs: Tensor) -> Tensor:
    """KL over k + 1 buckets for N positions: ``logits`` [N, V], ``ids`` and ``logprobs`` [N, K] → [N], nats."""
    student = precise(logits).log_softmax(-1)
    listed = logprobs > -math.inf
    teacher = precise(logprobs).masked_fill(~listed, 0.0)
    shares = teacher.exp() * listed
    inside = (shares * (teacher - student.gather(1, ids))).sum(1)
    tail = (1 - shares.sum(1)).clamp(min=0)
    # padding points at token 0, which is in the tail unless it is listed as well
    in_top = torch.zeros_like(student).scatter_add_(1, ids, listed.to(student.dtype)) > 0
    student_tail = student.masked_fill(in_top, torch.finfo(student.dtype).min).logsumexp(1).clamp(min=_NO_TAIL)
    outside: Tensor = torch.special.xlogy(tail, tail) - tail * student_tail
    return inside + outside
