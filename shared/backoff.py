"""Delays that grow from one failure to the next."""

from __future__ import annotations

import random
from dataclasses import dataclass

LARGEST_EXPONENT = 60  # far beyond any ``longest``; a larger one would overflow a float


@dataclass(frozen=True)
class Backoff:
    """Seconds to wait after failures in a row: ``first``, then ``factor`` times as long each time, up to ``longest``.

    ``jitter`` is the share of each delay that is random, so that callers that failed together do not return together.
    """

    first: float
    longest: float
    factor: float = 2.0
    jitter: float = 0.0

    def delay(self, failures: int) -> float:
        """The seconds to wait after the last of ``failures`` in a row, counted from 1."""
        whole = min(self.longest, self.first * self.factor ** min(max(0, failures - 1), LARGEST_EXPONENT))
        return whole * random.uniform(1.0 - self.jitter, 1.0) if self.jitter else whole


class RestartDelays:
    """Seconds to wait before each restart of a process: they grow until a run has lasted ``stable`` seconds."""

    def __init__(self, backoff: Backoff, stable: float) -> None:
        self._backoff, self._stable = backoff, stable
        self._short_runs = 0

    def after_run(self, seconds: float) -> float:
        """The delay after a run of ``seconds``; 0.0 for a process that did not start."""
        self._short_runs = 1 if seconds > self._stable else self._short_runs + 1
        return self._backoff.delay(self._short_runs)
