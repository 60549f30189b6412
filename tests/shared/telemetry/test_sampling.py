"""Which traces are recorded: a share of those that begin here, all that must be, and what a caller decided."""

from __future__ import annotations

from random import Random

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from shared.telemetry.sampling import ALWAYS, sampler

RANDOM = Random(7)


def decide(share: float, trace_id: int = 1, *, always: bool = False, context: Context | None = None) -> bool:
    found = sampler(share).should_sample(context, trace_id, "span", attributes={ALWAYS: True} if always else None)
    return found.decision is Decision.RECORD_AND_SAMPLE


def caller(*, recorded: bool) -> Context:
    flags = TraceFlags(TraceFlags.SAMPLED if recorded else TraceFlags.DEFAULT)
    return set_span_in_context(NonRecordingSpan(SpanContext(1, 2, is_remote=True, trace_flags=flags)), Context())


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_a_share_of_the_new_traces_is_recorded(share: float) -> None:
    recorded = sum(decide(share, RANDOM.getrandbits(128)) for _ in range(2000))
    assert recorded == pytest.approx(2000 * share, abs=100)


def test_what_must_be_recorded_is_whatever_the_share() -> None:
    assert decide(0.0, always=True)


@pytest.mark.parametrize("recorded", [True, False])
def test_a_callers_decision_is_kept(recorded: bool) -> None:
    assert decide(0.0 if recorded else 1.0, context=caller(recorded=recorded)) is recorded
    assert decide(0.0, always=True, context=caller(recorded=recorded)) is recorded
