"""Counts of a canary: requests, errors and latencies of each version, and how often both versions agreed.

A replica counts its own requests and publishes its counts. Code that needs the sum over replicas adds them up.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field

from pydantic import TypeAdapter

from shared.contracts import VersionStats

FIRST_BOUND, GROWTH, BOUNDS_COUNT = 0.001, 1.1, 124
BOUNDS = tuple(FIRST_BOUND * GROWTH**n for n in range(BOUNDS_COUNT))
"""Upper bounds of the latency buckets in seconds, from 1 ms to two minutes. A percentile is within 5 %."""


@dataclass
class Latencies:
    """A histogram that can be summed. ``counts``: one for each bucket of BOUNDS, and one for longer latencies."""

    total: float = 0.0
    counts: list[int] = field(default_factory=lambda: [0] * (BOUNDS_COUNT + 1))

    @property
    def count(self) -> int:
        return sum(self.counts)

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def add(self, other: Latencies) -> None:
        self.total += other.total
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]

    def mean(self) -> float | None:
        return self.total / self.count if self.count else None

    def quantile(self, share: float) -> float | None:
        """The seconds below which ``share`` of the observations lie, interpolated within a bucket."""
        wanted, below = share * self.count, 0
        for bucket, count in enumerate(self.counts):
            if count and below + count >= wanted:
                if bucket == BOUNDS_COUNT:
                    return BOUNDS[-1]
                low = BOUNDS[bucket - 1] if bucket else 0.0
                return low + (BOUNDS[bucket] - low) * (wanted - below) / count
            below += count
        return None


@dataclass
class VersionTally:
    """One version: the latencies of its answers, and the requests that it failed."""

    errors: int = 0
    latencies: Latencies = field(default_factory=Latencies)

    @property
    def requests(self) -> int:
        return self.errors + self.latencies.count

    @property
    def error_rate(self) -> float:
        return self.errors / self.requests if self.requests else 0.0

    def add(self, other: VersionTally) -> None:
        self.errors += other.errors
        self.latencies.add(other.latencies)

    def stats(self, version: str) -> VersionStats:
        return VersionStats(
            version=version,
            requests=self.requests,
            errors=self.errors,
            latency_mean=self.latencies.mean(),
            latency_p50=self.latencies.quantile(0.50),
            latency_p95=self.latencies.quantile(0.95),
            latency_p99=self.latencies.quantile(0.99),
        )


@dataclass
class Tally:
    """A whole canary. ``compared``: greedy answers of the candidate whose questions the active version answered too."""

    active: VersionTally = field(default_factory=VersionTally)
    candidate: VersionTally = field(default_factory=VersionTally)
    compared: int = 0
    agreed: int = 0

    @property
    def agreement(self) -> float | None:
        return self.agreed / self.compared if self.compared else None

    def add(self, other: Tally) -> None:
        self.active.add(other.active)
        self.candidate.add(other.candidate)
        self.compared += other.compared
        self.agreed += other.agreed

    def dump(self) -> str:
        return _TALLY.dump_json(self).decode()

    @staticmethod
    def load(text: str) -> Tally:
        """Raises ValueError for a text that ``dump`` did not write."""
        tally = _TALLY.validate_json(text)
        for version in (tally.active, tally.candidate):
            if len(version.latencies.counts) != BOUNDS_COUNT + 1:
                raise ValueError("another release wrote these latency buckets")
        return tally


_TALLY: TypeAdapter[Tally] = TypeAdapter(Tally)


def total(tallies: Iterable[Tally]) -> Tally:
    """The sum of the counts of several replicas."""
    found = Tally()
    for tally in tallies:
        found.add(tally)
    return found
