"""How certain a gain is that was measured on yes-or-no answers to the same questions, before and after. No NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable

LEVEL = 0.95
_HALVINGS = 60


def gain_interval(gained: int, lost: int, questions: int, level: float = LEVEL) -> tuple[float, float]:
    """Exact interval of the gain in the share of right answers, in [-1, 1].

    ``gained`` of ``questions`` became right and ``lost`` became wrong; the others say nothing about a difference. Of
    the answers that changed, the share that was gained has a Clopper-Pearson interval: it lies above 1/2, and the gain
    above 0, where McNemar's exact test finds a difference at 1 - ``level``. Raises ValueError.
    """
    changed = gained + lost
    if gained < 0 or lost < 0 or changed > questions or questions < 1:
        raise ValueError(f"{gained} gained and {lost} lost do not fit {questions} questions")
    if changed == 0:
        # Nothing changed, and at most this share of all questions would have.
        most = 1 - ((1 - level) / 2) ** (1 / questions)
        return -most, most
    low, high = _share_interval(gained, changed, level)
    return (2 * low - 1) * changed / questions, (2 * high - 1) * changed / questions


def _share_interval(hits: int, draws: int, level: float) -> tuple[float, float]:
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else _solve(lambda share: _at_least(hits, draws, share) < tail)
    high = 1.0 if hits == draws else _solve(lambda share: 1 - _at_least(hits + 1, draws, share) > tail)
    return low, high


def _solve(too_small: Callable[[float], bool]) -> float:
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if too_small(middle) else (low, middle)
    return low


def _at_least(hits: int, draws: int, share: float) -> float:
    """Probability of at least ``hits`` in ``draws`` of probability ``share``."""
    if share <= 0.0 or share >= 1.0:
        return float(share >= 1.0 or hits == 0)
    logs = (
        math.lgamma(draws + 1)
        - math.lgamma(k + 1)
        - math.lgamma(draws - k + 1)
        + k * math.log(share)
        + (draws - k) * math.log1p(-share)
        for k in range(hits, draws + 1)
    )
    return min(1.0, math.fsum(map(math.exp, logs)))
