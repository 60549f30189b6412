"""How far the teacher and the student differ on one pair, each measure in [0, 1] (docs/method.md).

In plain Python, because the parity workers have neither NumPy nor torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

BINS = 10
NAMES = ("confidence", "reasoning", "attention")


def confidence_gap(teacher_logprob: float, student_logprob: float) -> float:
    """How much more likely the teacher finds its own answer than the student does: max(0, e^t - e^s).

    Both are mean token log-probabilities (nats) of the teacher's answer, so e^x is the geometric mean of its tokens'
    probabilities, and long answers do not look unlikely because of their length.
    """
    return _within(math.exp(min(0.0, teacher_logprob)) - math.exp(min(0.0, student_logprob)))


def reasoning_gap(teacher_logprob: float, student_logprob: float) -> float:
    """How much less likely the teacher's rationale is to the student: 1 - min(1, e^(s - t)).

    The logarithms are means over its tokens, in nats. A ratio, not a difference: a sentence has many right wordings, so
    its probability is small to the teacher as well.
    """
    return _within(1 - math.exp(min(0.0, student_logprob - teacher_logprob)))


def attention_gap(teacher: Sequence[float], student: Sequence[float]) -> float:
    """Jensen-Shannon divergence (base 2) of two maps of equal size, each scaled to sum 1 first.

    Raises ValueError for maps of different size or without any weight.
    """
    p, q = _scaled(teacher), _scaled(student)
    if len(p) != len(q):
        raise ValueError(f"maps of {len(p)} and {len(q)} cells cannot be compared")
    return _within(sum(_half(a, a + b) + _half(b, a + b) for a, b in zip(p, q, strict=True)))


@dataclass(frozen=True)
class Histogram:
    """How a discrepancy is spread over pairs: ``bins`` counts tenths of [0, 1], 1.0 in the last one.

    Histograms of parts add up to that of the whole, so that a job's state needs no pair.
    """

    bins: tuple[int, ...] = (0,) * BINS
    total: float = 0.0

    @property
    def count(self) -> int:
        return sum(self.bins)

    @property
    def mean(self) -> float | None:
        return self.total / self.count if self.count else None

    def __add__(self, other: Histogram) -> Histogram:
        bins = tuple(a + b for a, b in zip(self.bins, other.bins, strict=True))
        return Histogram(bins, round(self.total + other.total, 6))


def histogram(values: Iterable[float | None]) -> Histogram:
    """Of the values that are known."""
    known = [value for value in values if value is not None]
    bins = [0] * BINS
    for value in known:
        bins[min(BINS - 1, int(value * BINS))] += 1
    return Histogram(tuple(bins), round(math.fsum(known), 6))


def merged(parts: Iterable[Mapping[str, Histogram]]) -> dict[str, Histogram]:
    """Sums by name, in the order of `NAMES`; names without a value are left out."""
    found: dict[str, Histogram] = {}
    for part in parts:
        for name, one in part.items():
            found[name] = found.get(name, Histogram()) + one
    return {name: found[name] for name in NAMES if name in found and found[name].count}


def _half(value: float, both: float) -> float:
    """A cell's part of the divergence. Divides by the sum: half of the smallest float would be 0."""
    return value / 2 * math.log2(2 * value / both) if value > 0 else 0.0


def _scaled(values: Sequence[float]) -> list[float]:
    total = math.fsum(values)
    if not total > 0:
        raise ValueError("a map whose weights are all zero cannot be compared")
    return [value / total for value in values]


def _within(value: float) -> float:
    return min(1.0, max(0.0, value))
