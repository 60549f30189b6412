"""What a canary's rule makes of its counts: promote, abort or wait, with the reason."""

from __future__ import annotations

import pytest

from services.student.rollout.canary.counts import Latencies, Tally, VersionTally
from services.student.rollout.canary.rule import decide
from shared.contracts import CanaryRule


def seen(seconds: float) -> Latencies:
    """100 answers that took so long."""
    found = Latencies()
    for _ in range(100):
        found.observe(seconds)
    return found


def tally(*, active: float = 0.1, candidate: float = 0.1, errors: int = 0, agreed: int = 50) -> Tally:
    """100 answers of each version at these latencies, and 50 comparisons."""
    return Tally(
        VersionTally(0, seen(active)),
        VersionTally(errors, seen(candidate)),
        compared=50,
        agreed=agreed,
    )


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
