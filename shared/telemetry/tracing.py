"""Traces by OpenTelemetry. They are off unless an endpoint is set; while off, no OpenTelemetry package is imported.

A process opens its ``Traces`` once. Code that runs below one of their spans adds spans with ``span``, and passes the
trace on to other processes with ``trace_headers``. Both use the current span of the context, and do nothing without
one.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from shared.errors import InvalidInput
from shared.settings import CommonSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, SpanKind, Tracer

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Value = str | int | float | bool
HEADER = "traceparent"
STANDARD_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
FLUSH_SECONDS = 3.0
GIVE_UP_SECONDS = 0.5

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Place:
    tracer: Tracer
    span: Span


_here: ContextVar[_Place | None] = ContextVar("mpa_trace", default=None)
_NOTHING: AbstractContextManager[None] = nullcontext()


def span(
    name: str, attributes: Mapping[str, Value] | None = None, kind: Kind = "internal"
) -> AbstractContextManager[Span | None]:
    """A span below the current one; None if nothing is recorded. An exception that leaves it marks it as failed."""
    here = _here.get()
    if here is None or not here.span.is_recording():
        return _NOTHING
    return _below(here, name, kind, attributes or {})


def unrecorded() -> AbstractContextManager[None]:
    """Code in the block stays in the trace but is not recorded, here or in the services that it calls."""
    here = _here.get()
    return _NOTHING if here is None or not here.span.is_recording() else _unsampled(here)


def trace_headers() -> dict[str, str]:
    """The W3C ``traceparent`` of the current span; empty if there is none."""
    here = _here.get()
    if here is None:
        return {}
    context = here.span.get_span_context()
    return {HEADER: f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"}


def trace_id() -> str | None:
    """32 hexadecimal digits, for logs; None outside recorded traces."""
    here = _here.get()
    if here is None or not here.span.get_span_context().trace_flags.sampled:
        return None
    return f"{here.span.get_span_context().trace_id:032x}"


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
        kind: Kind,
        parent: str | None = None,
        attributes: Mapping[str, Value] | None = None,
        *,
        always: bool = False,
    ) -> Iterator[Span]:
        """The first span of this process below ``parent`` (a traceparent), or of a trace that begins here.

        ``always``: a trace that begins here is recorded whatever the share.
        """
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        from shared.telemetry.sampling import ALWAYS

        context = TraceContextTextMapPropagator().extract({HEADER: parent} if parent else {})
        values: dict[str, Value] = {**(attributes or {}), **({ALWAYS: True} if always else {})}
        started = self._tracer.start_span(name, context, _kind(kind), values)
        with _inside(_Place(self._tracer, started)):
            yield started

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


@contextmanager
def _below(here: _Place, name: str, kind: Kind, attributes: Mapping[str, Value]) -> Iterator[Span]:
    from opentelemetry.context import Context
    from opentelemetry.trace import set_span_in_context

    started = here.tracer.start_span(name, set_span_in_context(here.span, Context()), _kind(kind), attributes)
    with _inside(_Place(here.tracer, started)):
        yield started


@contextmanager
def _inside(place: _Place) -> Iterator[None]:
    from opentelemetry.trace import Status, StatusCode

    token = _here.set(place)
    try:
        yield
    except BaseException as error:
        if place.span.is_recording():
            place.span.record_exception(error)
            place.span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"[:300]))
        raise
    finally:
        _here.reset(token)
        place.span.end()


@contextmanager
def _unsampled(here: _Place) -> Iterator[None]:
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

    known = here.span.get_span_context()
    silent = NonRecordingSpan(SpanContext(known.trace_id, known.span_id, False, TraceFlags(TraceFlags.DEFAULT)))
    token = _here.set(_Place(here.tracer, silent))
    try:
        yield
    finally:
        _here.reset(token)


def _kind(kind: Kind) -> SpanKind:
    from opentelemetry.trace import SpanKind

    return SpanKind[kind.upper()]
