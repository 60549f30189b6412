"""What a canary's rule decides from its counts: promote, abort or wait, with the reason in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from services.student.rollout.canary.counts import Tally
from shared.contracts import CanaryRule


@dataclass(frozen=True)
class Decision:
    action: Literal["promote", "abort", "wait"]
    reason: str


def decide(rule: CanaryRule, tally: Tally, *, age: float, complete: bool) -> Decision:
    """``age``: seconds since the canary began. ``complete``: the counts are those of all replicas.

    A broken limit counts whichever replica saw it. A promotion needs the counts of all replicas.
    """
    requests = tally.candidate.requests
    enough = requests >= rule.min_requests
    if enough and (broken := next(_broken(rule, tally), None)) is not None:
        return Decision("abort", broken)
    waiting = next(_waiting(rule, tally, age, complete), None)
    if waiting is not None and rule.max_seconds is not None and age > rule.max_seconds:
        return Decision("abort", f"not decided within {rule.max_seconds:g} s: {waiting}")
    if waiting is not None:
        return Decision("wait", waiting)
    return Decision("promote", f"all limits kept over {requests} candidate answers")


def _broken(rule: CanaryRule, tally: Tally) -> Iterator[str]:
    """The limits that do not hold."""
    candidate = tally.candidate
    if rule.max_error_rate is not None and candidate.error_rate > rule.max_error_rate:
        yield (
            f"{candidate.errors} of {candidate.requests} candidate answers failed, more than "
            f"{rule.max_error_rate:.2%} (max_error_rate)"
        )
    ratio = latency_ratio(tally)
    if rule.max_latency_ratio is not None and ratio is not None and ratio > rule.max_latency_ratio:
        yield f"the candidate's p95 latency is {ratio:.2f} times the active one's (max_latency_ratio)"
    agreement = 1.0 if tally.agreement is None else tally.agreement
    if rule.min_agreement is not None and _compared_enough(rule, tally) and agreement < rule.min_agreement:
        yield f"agreement is {agreement:.2%} over {tally.compared} compared answers (min_agreement)"


def _waiting(rule: CanaryRule, tally: Tally, age: float, complete: bool) -> Iterator[str]:
    """What is still missing for a promotion."""
    if tally.candidate.requests < rule.min_requests:
        yield f"{tally.candidate.requests} of {rule.min_requests} candidate answers so far"
    if rule.max_latency_ratio is not None and latency_ratio(tally) is None:
        yield "no answers of both versions to compare latencies"
    if not _compared_enough(rule, tally):
        yield f"{tally.compared} of {_to_compare(rule)} compared answers so far (only greedy answers are compared)"
    if age < rule.min_seconds:
        yield f"{age:.0f} of {rule.min_seconds:g} s so far"
    if not complete:
        yield "Redis does not answer, so the other replicas' counts are unknown"
    if not rule.promote:
        yield "all limits kept; the rule does not promote: promote it by a call"


def _compared_enough(rule: CanaryRule, tally: Tally) -> bool:
    return rule.min_agreement is None or tally.compared >= _to_compare(rule)


def _to_compare(rule: CanaryRule) -> int:
    """A tenth of ``min_requests``, because not every answer can be compared."""
    return max(1, rule.min_requests // 10)


def latency_ratio(tally: Tally) -> float | None:
    """The candidate's p95 latency over the active version's; None unless both have answered."""
    candidate, active = tally.candidate.latencies.quantile(0.95), tally.active.latencies.quantile(0.95)
    return None if candidate is None or not active else candidate / active
