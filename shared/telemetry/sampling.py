"""Which traces are recorded: those that a caller records, a share of those that begin here, and all that must be."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

ALWAYS = "mpa.always"


class _Share(Sampler):
    """Records a share of the traces, and all whose first span has the attribute ``ALWAYS``."""

    def __init__(self, share: float) -> None:
        self._share = TraceIdRatioBased(share)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        chosen = ALWAYS_ON if (attributes or {}).get(ALWAYS) else self._share
        return chosen.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return f"MPA{{{self._share.get_description()}}}"


def sampler(share: float) -> Sampler:
    """For requests that come without a trace; a caller's decision is kept."""
    return ParentBased(root=_Share(share))
