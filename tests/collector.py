"""A collector of traces over real OTLP/HTTP, for tests and benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request, Response
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.quick_server import ServerThread


@dataclass(frozen=True)
class SeenSpan:
    """What arrived of a span. Ids in hexadecimal digits; ``parent`` is empty for a trace's first one."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    failed: bool


@dataclass
class Collector:
    """Keeps all spans that were sent to ``url``."""

    spans: list[SeenSpan] = field(default_factory=list)
    url: str = ""

    def named(self, name: str) -> list[SeenSpan]:
        return [span for span in self.spans if span.name == name]

    def way_up(self, span: SeenSpan) -> list[SeenSpan]:
        """The span, its parent, and so on to the first of its trace."""
        by_id = {known.id: known for known in self.spans}
        way = [span]
        while way[-1].parent in by_id:
            way.append(by_id[way[-1].parent])
        return way

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/v1/traces")
        async def traces(request: Request) -> Response:
            self.spans += _read(await request.body())
            return Response(b"", media_type="application/x-protobuf")

        return app


@contextmanager
def running_collector() -> Iterator[Collector]:
    collector = Collector()
    server = ServerThread(collector.app())
    collector.url = server.url
    yield collector
    server.stop()


def _read(body: bytes) -> list[SeenSpan]:
    seen = []
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        service = _values(resource.resource.attributes)["service.name"]
        for scope in resource.scope_spans:
            for span in scope.spans:
                ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                failed = span.status.code == span.status.STATUS_CODE_ERROR
                seen.append(SeenSpan(service, span.name, *ids, _values(span.attributes), failed))
    return seen


def _values(attributes: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in attributes}
