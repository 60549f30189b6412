"""Traces by OpenTelemetry. They are off unless an endpoint is set; while off, its SDK is not imported.

A process opens its ``Traces`` once. Code that runs below one of their spans adds spans with ``span``, and passes the
trace on to other processes with ``trace_headers``. Both use the current span of OpenTelemetry's context, and record
nothing without one.

OpenTelemetry's instrumentors are not used. The one for Celery keeps the trace in the message alone, but ours is in the
job's record too, because messages may be lost. Those for FastAPI and httpx would take more code than they save: each
has to be told which requests to record, and that one process may run several services.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

from opentelemetry.context import attach, create_key, detach, get_value, set_value
from opentelemetry.trace import (
    NonRecordingSpan,
    NoOpTracer,
    Span,
    SpanContext,
    SpanKind,
    Tracer,
    format_trace_id,
    get_current_span,
    use_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.errors import InvalidInput
from shared.settings import CommonSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

Value = str | int | float | bool
HEADER = "traceparent"
STANDARD_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
FLUSH_SECONDS = 3.0
GIVE_UP_SECONDS = 0.5

log = logging.getLogger(__name__)

# In the context and not global, because one process may run several services, each with traces of its own.
_TRACER = create_key("mpa-tracer")
_OFF = NoOpTracer()
_propagator = TraceContextTextMapPropagator()


def span(
    name: str, attributes: Mapping[str, Value] | None = None, kind: SpanKind = SpanKind.INTERNAL
) -> AbstractContextManager[Span]:
    """A span below the current one. An exception that leaves it marks it as failed."""
    tracer = cast(Tracer | None, get_value(_TRACER)) or _OFF
    return tracer.start_as_current_span(name, kind=kind, attributes=attributes)


def unrecorded() -> AbstractContextManager[Span]:
    """Code in the block stays in the trace but is not recorded, here or in the services that it calls."""
    known = get_current_span().get_span_context()
    return use_span(NonRecordingSpan(SpanContext(known.trace_id, known.span_id, is_remote=False)))


def trace_headers() -> dict[str, str]:
    """The W3C ``traceparent`` of the current span, and its ``tracestate`` if it has one; empty without a span."""
    headers: dict[str, str] = {}
    _propagator.inject(headers)
    return headers


def trace_id() -> str | None:
    """32 hexadecimal digits, for logs; None outside recorded traces."""
    context = get_current_span().get_span_context()
    return format_trace_id(context.trace_id) if context.trace_flags.sampled else None


class Traces:
    """The traces of one process. ``share`` of those that begin here are recorded; a caller's decision is kept."""

    def __init__(self, service: str, share: float, exporter: SpanExporter) -> None:
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        from shared.telemetry.sampling import sampler

        resource = Resource.create({SERVICE_NAME: f"mpa-{service}"})
        # No exit hook: it would wait for an unreachable collector much longer than ``close`` does.
        self._provider = TracerProvider(sampler=sampler(share), resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._exporter = exporter
        self._tracer = self._provider.get_tracer("mpa")

    @contextmanager
    def root(
        self,
        name: str,
        kind: SpanKind,
        parent: str | None = None,
        attributes: Mapping[str, Value] | None = None,
        *,
        always: bool = False,
    ) -> Iterator[Span]:
        """The first span of this process below ``parent`` (a traceparent), or of a trace that begins here.

        ``always``: a trace that begins here is recorded whatever the share.
        """
        from shared.telemetry.sampling import ALWAYS

        values: dict[str, Value] = {**(attributes or {}), **({ALWAYS: True} if always else {})}
        came_with = _propagator.extract({HEADER: parent} if parent else {})
        token = attach(set_value(_TRACER, self._tracer, came_with))
        try:
            with span(name, values, kind) as started:
                yield started
        finally:
            detach(token)

    def close(self) -> None:
        """Send what is left. If the collector is unreachable, gives up after FLUSH_SECONDS; OpenTelemetry itself would
        try for half a minute.
        """
        sending = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        sending.start()
        sending.join(FLUSH_SECONDS)
        if sending.is_alive():
            log.warning("The last spans of this process are lost: the collector did not accept them in time.")
            self._exporter.shutdown()  # ends the wait between two attempts
            sending.join(GIVE_UP_SECONDS)


def open_traces(service: str, settings: CommonSettings) -> Traces | None:
    """None where no endpoint is set. Raises InvalidInput if OpenTelemetry is not installed."""
    if not settings.otlp_endpoint and not any(os.environ.get(name) for name in STANDARD_VARIABLES):
        return None
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.exporter.otlp.proto.http") is None:
        raise InvalidInput(
            "MPA_OTLP_ENDPOINT (or OTEL_EXPORTER_OTLP_ENDPOINT) is set, but OpenTelemetry is not installed: "
            "pip install 'mpa[tracing]', or unset it."
        )
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    # The exporter reads the standard variables itself.
    endpoint = f"{settings.otlp_endpoint.rstrip('/')}/v1/traces" if settings.otlp_endpoint else None
    return Traces(service, settings.trace_share, OTLPSpanExporter(endpoint=endpoint))
