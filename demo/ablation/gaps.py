"""The three gaps of a pair in [0, 1], by the formulas of docs/method.md."""

from __future__ import annotations

import math
from collections.abc import Sequence


def confidence_gap(teacher: float, student: float) -> float:
    """How much likelier the teacher's answer is to the teacher; mean token log-probabilities in nats."""
    return max(0.0, math.exp(teacher) - math.exp(student))


def reasoning_gap(teacher: float, student: float) -> float:
    """The same of the teacher's rationale."""
    return max(0.0, math.exp(teacher) - math.exp(student))


def attention_gap(teacher: Sequence[float], student: Sequence[float]) -> float:
    """Jensen-Shannon divergence of two maps with sum 1, base 2."""
    divergence = 0.0
    for p, q in zip(teacher, student, strict=True):
        middle = (p + q) / 2
        divergence += sum(one * math.log2(one / middle) for one in (p, q) if one > 0) / 2
    return min(1.0, max(0.0, divergence))
