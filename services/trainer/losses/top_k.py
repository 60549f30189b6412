"""Token-level consistency: the divergence of the student's next-token distribution from the teacher's top k.

Servers return at most 20 alternatives for a token. Renormalising them would teach the student that nothing else exists
(a bias that Anshumann et al. describe, "Sparse Logit Sampling", arXiv 2503.16870). Instead, all other tokens form one
more bucket, the tail, on both sides:

    KL = Σ_k p_k (log p_k - log q_k) + p_tail (log p_tail - log q_tail),   p_tail = 1 - Σ p_k,   q_tail = 1 - Σ q_k

This is the exact divergence of the two distributions over the same k + 1 buckets: a lower bound of the full one
(log-sum inequality) that is zero if the student equals the teacher, whatever the distribution within the tail. TRL's
distillation trainers add the same bucket (``loss_add_tail``), as log(1 - exp(log Σ q)) with the sum clamped under 1,
which has no gradient for tails under 1e-7. Here the whole distribution of the student is known, so its tail is summed
from the logits that are not listed, and is exact however small it is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from services.trainer.losses.predictions import IGNORE, Predictions, TargetKind, precise

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
    rows = (predictions.kind == TargetKind.ANSWER) & known.any(1)
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
