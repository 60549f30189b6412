"""Counts of a canary: percentiles, and sums over replicas."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.student.rollout.canary.counts import BOUNDS, Latencies, Tally, VersionTally, total

SECONDS = st.lists(st.floats(0.0005, 100.0), min_size=1, max_size=200)


def latencies(*seconds: float) -> Latencies:
    found = Latencies()
    for each in seconds:
        found.observe(each)
    return found


@given(SECONDS, st.floats(0.01, 1.0))
def test_a_percentile_lies_in_the_bucket_of_the_true_one(seconds: list[float], share: float) -> None:
    found = latencies(*seconds).quantile(share)
    ordered = sorted(seconds)
    true = ordered[max(0, -int(-share * len(ordered) // 1) - 1)]
    assert found is not None
    assert true / 1.11 - BOUNDS[0] <= found <= true * 1.11 + BOUNDS[0]


@given(SECONDS, SECONDS)
def test_sums_over_replicas_are_as_if_one_had_counted(first: list[float], second: list[float]) -> None:
    parts = [Tally(VersionTally(1, latencies(*seconds)), VersionTally(), 3, 2) for seconds in (first, second)]
    found = total(Tally.load(part.dump()) for part in parts)
    whole = latencies(*first, *second)
    assert found.active.latencies.counts == whole.counts
    assert found.active.stats("v").latency_mean == pytest.approx(statistics.fmean(first + second))
    assert (found.active.requests, found.compared, found.agreed) == (len(first) + len(second) + 2, 6, 4)


def test_counts_of_another_release_are_no_counts() -> None:
    strange = Tally()
    strange.active.latencies.counts.append(1)
    with pytest.raises(ValueError, match="another release"):
        Tally.load(strange.dump())
    with pytest.raises(ValueError, match="JSON"):
        Tally.load("{")


def test_nothing_counted_has_no_latency() -> None:
    stats = Tally().candidate.stats("v")
    assert (stats.requests, stats.latency_mean, stats.latency_p95) == (0, None, None)
