"""FastAPI factory: what is the same in every service, from errors and API keys to health and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from shared.compatibility import RELEASE, SCHEMA
from shared.contracts import Alive, Health
from shared.errors import MPAError
from shared.http.errors import add_error_handlers, add_outage_handlers, openai_response, problem_response, speaks_openai
from shared.http.gate import Gate
from shared.http.openapi import complete_openapi
from shared.settings import HttpSettings
from shared.telemetry.metrics import make_registry
from shared.telemetry.tracing import Traces, open_traces

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
Readiness = Callable[[FastAPI], Awaitable[Health]]
MoreMetrics = Callable[[FastAPI], Awaitable[bytes]]


def create_app(
    service: str,
    settings: HttpSettings,
    *,
    lifespan: Lifespan,
    ready: Readiness,
    openai_errors: bool = False,
    outages: Mapping[type[Exception], str] | None = None,
    more_metrics: MoreMetrics | None = None,
) -> FastAPI:
    """A service's app with everything that all four services share; the caller adds the routes.

    ``ready`` tells whether the service can do real work now. ``openai_errors`` uses OpenAI's error format on the chat
    routes, and for paths under ``/v1`` that the service does not have. ``outages`` maps an exception type to
    what is the matter when a route raises it, in words that "now" follows: the answer is a 503. ``more_metrics`` adds
    to the service's own metrics in ``/metrics``, in Prometheus' text format.
    """
    traces = open_traces(service, settings)
    app = FastAPI(
        title=f"MPA {service}",
        version="1",
        lifespan=_traced(lifespan, traces),
        generate_unique_id_function=lambda route: route.name,  # generated clients name their functions after it
    )
    registry = make_registry()
    app.state.metrics_registry = registry

    def respond(request: Request, error: MPAError) -> JSONResponse:
        as_openai = openai_errors and speaks_openai(request.scope)
        return openai_response(error) if as_openai else problem_response(error)

    add_error_handlers(app, respond)
    add_outage_handlers(app, respond, outages or {})
    _add_service_routes(app, service, ready, registry, more_metrics)
    complete_openapi(app, openai_errors=openai_errors, outages=bool(outages))
    app.add_middleware(
        Gate, settings=settings, registry=registry, service=service, openai_errors=openai_errors, traces=traces
    )
    return app


def _traced(lifespan: Lifespan, traces: Traces | None) -> Lifespan:
    """``lifespan``, with the last spans sent at its end."""
    if traces is None:
        return lifespan

    @asynccontextmanager
    async def run(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with lifespan(app):
                yield
        finally:
            await asyncio.to_thread(traces.close)

    return run


def serve(app: FastAPI, settings: HttpSettings, port: int) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight get ``shutdown_grace`` to finish."""
    uvicorn.run(
        app,
        host=settings.host,
        port=port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=max(1, int(settings.shutdown_grace.total_seconds())),
        timeout_keep_alive=75,
    )


def _add_service_routes(
    app: FastAPI, service: str, ready: Readiness, registry: CollectorRegistry, more_metrics: MoreMetrics | None
) -> None:
    @app.get("/healthz", tags=["health"])
    async def healthz() -> Alive:
        """Show that the process is alive, and its release."""
        return Alive(service=service, release=RELEASE, schema_version=SCHEMA)

    @app.get("/readyz", tags=["health"], response_model=Health, responses={503: {"model": Health}})
    async def readyz() -> JSONResponse:
        """Whether the service can do real work now."""
        health = await ready(app)
        return JSONResponse(health.model_dump(mode="json"), 200 if health.ready else 503)

    @app.get("/metrics", tags=["health"], response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Prometheus metrics."""
        more = b"" if more_metrics is None else await more_metrics(app)
        return Response(generate_latest(registry) + more, media_type=CONTENT_TYPE_LATEST)
