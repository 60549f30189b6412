"""Attention consistency: where the student looks while it answers, against where the teacher looked."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from services.trainer.losses.predictions import Predictions, precise

_FLOOR = 1e-8


def attention_divergence(predictions: Predictions) -> Tensor:
    """Jensen-Shannon divergence of the two maps, base 2: [B], 0-1, 0 for samples without both."""
    teacher, student = predictions.teacher_maps, predictions.student_maps
    values = predictions.zeros()
    if teacher is None or student is None:
        return values
    known = ~(teacher.isnan().any(1) | student.isnan().any(1))
    return values.masked_scatter(known, jensen_shannon(teacher[known], student[known]).to(values.dtype))


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """JS(p, q) in bits of distributions [N, M] → [N]."""
    p, q = precise(p).clamp(min=_FLOOR), precise(q).clamp(min=_FLOOR)
    p, q = p / p.sum(1, keepdim=True), q / q.sum(1, keepdim=True)
    middle = (p + q) / 2
    divergence = (p * (p / middle).log() + q * (q / middle).log()).sum(1) / 2
    return torch.clamp(divergence / math.log(2), min=0)
