"""The learning rate over a training: it rises to its peak and falls along a cosine. No step is taken at rate 0."""

from __future__ import annotations

import math


def warmup_steps(steps: int, fraction: float) -> int:
    """How many of ``steps`` come before the peak: ``fraction`` of them, rounded up, but never all of them."""
    return min(math.ceil(steps * fraction), steps - 1)


def rate_factor(step: int, *, warmup: int, steps: int) -> float:
    """The share of the peak rate at ``step`` (0 … ``steps`` - 1), in (0, 1].

    Step i of the warm-up has (i + 1) / (``warmup`` + 1), so the first step after it is the first one at the peak. The
    cosine reaches 0 after the last step.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / (steps - warmup))))
