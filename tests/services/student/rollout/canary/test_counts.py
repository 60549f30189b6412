"""Counts of a canary: percentiles, sums over replicas, and what a rule makes of them."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.student.rollout.canary.counts import BOUNDS, Latencies, Tally, VersionTally, total
from services.student.rollout.canary.rule import decide
from shared.contracts import CanaryRule

SECONDS = st.lists(st.floats(0.0005, 100.0), min_size=1, max_size=200)


def latencies(*seconds: float) -> Latencies:
    found = Latencies()
    for each in seconds:
        found.observe(each)
    return found


def tally(*, active: float = 0.1, candidate: float = 0.1, errors: int = 0, agreed: int = 50) -> Tally:
    """100 answers of each version at these latencies, and 50 comparisons."""
    return Tally(
        VersionTally(0, latencies(*[active] * 100)),
        VersionTally(errors, latencies(*[candidate] * 100)),
        compared=50,
        agreed=agreed,
    )


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


@pytest.mark.parametrize(
    ("counts", "rule", "action", "words"),
    [
        (tally(), {}, "promote", "100 candidate answers"),
        (tally(), {"promote": False}, "wait", "by a call"),
        (tally(), {"min_requests": 101}, "wait", "100 of 101"),
        (tally(), {"min_seconds": 61}, "wait", "60 of 61 s"),
        (tally(errors=5), {}, "abort", "5 of 105"),
        (tally(errors=5), {"max_error_rate": None}, "promote", ""),
        (tally(errors=5), {"min_requests": 500}, "wait", "105 of 500"),
        (tally(candidate=0.2), {}, "abort", "times the active one's"),
        (tally(candidate=0.13), {}, "promote", ""),
        (tally(candidate=0.2), {"max_latency_ratio": None}, "promote", ""),
        (tally(agreed=40), {"min_agreement": 0.9}, "abort", "80.00%"),
        (tally(agreed=45), {"min_agreement": 0.9}, "promote", ""),
        (tally(agreed=0), {"min_agreement": 0.9, "min_requests": 600}, "wait", "100 of 600"),
        (tally(), {"min_requests": 200, "max_seconds": 30}, "abort", "not decided within 30 s"),
        (tally(), {"promote": False, "max_seconds": 30}, "abort", "does not promote"),
        (Tally(candidate=tally().candidate), {}, "wait", "no answers of both"),
    ],
)
def test_a_rule_decides(counts: Tally, rule: dict[str, object], action: str, words: str) -> None:
    settings = {"min_requests": 100, "promote": True, **rule}
    decision = decide(CanaryRule.model_validate(settings), counts, age=60.0, complete=True)
    assert (decision.action, words in decision.reason) == (action, True), decision


def test_without_the_other_replicas_a_rule_aborts_but_does_not_promote() -> None:
    rule = CanaryRule(min_requests=100, promote=True)
    assert decide(rule, tally(), age=60, complete=False).action == "wait"
    assert decide(rule, tally(errors=50), age=60, complete=False).action == "abort"
