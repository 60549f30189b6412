"""FastAPI factory: problem+json errors, API keys, body limits, request ids, health and metrics for every service."""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.compatibility import RELEASE, SCHEMA
from shared.contracts import Alive, Health, Problem
from shared.errors import InvalidInput, MPAError, NotFound, TooLarge, Unauthorized, Unavailable
from shared.settings import HttpSettings
from shared.telemetry import log_fields
from shared.telemetry.metrics import make_registry
from shared.telemetry.tracing import HEADER, Traces, open_traces

log = logging.getLogger(__name__)

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
Readiness = Callable[[FastAPI], Awaitable[Health]]
MoreMetrics = Callable[[FastAPI], Awaitable[bytes]]
OPENAI_PATHS = ("/v1/chat/", "/v1/models")
OUTAGE_RETRY_AFTER = 2.0
ALWAYS_TRACED = {("POST", "/v1/jobs")}
"""Rare, and what follows is worth a trace."""
_OPENAI_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error", 503: "overloaded_error"}


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
    """A service's app with everything that is the same in all four; routes are added by the caller.

    ``ready`` answers whether real work would be served now. ``openai_errors`` gives OpenAI's error shape on the chat
    routes. ``outages`` names what is away when an exception of that type comes out of a route: the answer is a 503.
    ``more_metrics``: what ``/metrics`` shows beside the service's own, in Prometheus' text format.
    """
    traces = open_traces(service, settings)
    app = FastAPI(title=f"MPA {service}", version="1", lifespan=_traced(lifespan, traces))
    registry = make_registry()
    app.state.metrics_registry = registry

    def respond(request: Request, error: MPAError) -> JSONResponse:
        as_openai = openai_errors and request.url.path.startswith(OPENAI_PATHS)
        return openai_response(error) if as_openai else problem_response(error)

    _add_error_handlers(app, respond)
    _add_outage_handlers(app, respond, outages or {})
    _add_service_routes(app, service, ready, registry, more_metrics)
    app.add_middleware(
        _Gate, settings=settings, registry=registry, service=service, openai_errors=openai_errors, traces=traces
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


def problem_response(error: MPAError) -> JSONResponse:
    """RFC 9457 problem details."""
    problem = Problem(type=f"urn:mpa:problem:{error.slug}", title=error.title, status=error.status, detail=error.detail)
    return JSONResponse(
        problem.model_dump(), error.status, headers=_retry_header(error), media_type="application/problem+json"
    )


def openai_response(error: MPAError) -> JSONResponse:
    """The error shape that OpenAI clients parse."""
    kind = _OPENAI_TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    status = 400 if error.status == 422 else error.status
    body = {"error": {"message": error.detail, "type": kind, "param": error.param, "code": error.slug}}
    return JSONResponse(body, status, headers=_retry_header(error))


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


def _retry_header(error: MPAError) -> dict[str, str]:
    return {} if error.retry_after is None else {"Retry-After": str(max(1, round(error.retry_after)))}


def _add_error_handlers(app: FastAPI, respond: Callable[[Request, MPAError], JSONResponse]) -> None:
    async def on_mpa_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, MPAError)
        return respond(request, error)

    async def on_validation_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return respond(request, invalid_fields(error.errors()))

    async def on_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            return respond(request, NotFound(f"There is no route {request.method} {request.url.path}: see /docs."))
        wrapped = MPAError(str(error.detail))
        wrapped.status, wrapped.slug, wrapped.title = error.status_code, "http", str(error.detail)
        return respond(request, wrapped)

    async def on_any_error(request: Request, error: Exception) -> Response:
        log.error("Unhandled error in %s %s", request.method, request.url.path, exc_info=error)
        return respond(request, MPAError(f"An unexpected {type(error).__name__} happened: see the service's log."))

    app.add_exception_handler(MPAError, on_mpa_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(Exception, on_any_error)


def _add_outage_handlers(
    app: FastAPI, respond: Callable[[Request, MPAError], JSONResponse], outages: Mapping[type[Exception], str]
) -> None:
    async def on_outage(request: Request, error: Exception) -> Response:
        name = next(name for kind, name in outages.items() if isinstance(error, kind))
        log.warning("%s %s: %s is away: %s", request.method, request.url.path, name, error)
        detail = f"{name} cannot be reached at present; nothing that was accepted is lost. Retry in a moment."
        return respond(request, Unavailable(detail, retry_after=OUTAGE_RETRY_AFTER))

    for kind in outages:
        app.add_exception_handler(kind, on_outage)


def invalid_fields(errors: Any) -> InvalidInput:
    """The error for what pydantic found; an unknown field gets the code that OpenAI clients know."""
    first = errors[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    error = InvalidInput(describe_validation(errors), param=place or None)
    if first["type"] == "extra_forbidden":
        error.slug = "unknown_parameter"
    return error


def describe_validation(errors: Any) -> str:
    """All problems of a request in one sentence each, naming the field."""
    parts = []
    for item in errors:
        field = ".".join(str(p) for p in item["loc"] if p != "body") or "body"
        hint = "unknown field: remove it or fix its spelling" if item["type"] == "extra_forbidden" else item["msg"]
        parts.append(f"{field}: {hint}")
    return "; ".join(parts) + "."


def _add_service_routes(
    app: FastAPI, service: str, ready: Readiness, registry: CollectorRegistry, more_metrics: MoreMetrics | None
) -> None:
    @app.get("/healthz", tags=["health"])
    async def healthz() -> Alive:
        """The process is alive, and which release it is."""
        return Alive(service=service, release=RELEASE, schema_version=SCHEMA)

    @app.get("/readyz", tags=["health"], response_model=Health)
    async def readyz() -> JSONResponse:
        """Whether real work would be served now."""
        health = await ready(app)
        return JSONResponse(health.model_dump(mode="json"), 200 if health.ready else 503)

    @app.get("/metrics", tags=["health"])
    async def metrics() -> Response:
        """Prometheus metrics."""
        more = b"" if more_metrics is None else await more_metrics(app)
        return Response(generate_latest(registry) + more, media_type=CONTENT_TYPE_LATEST)


class _Gate:
    """ASGI middleware: request id, API key, body limit and request metrics. Plain ASGI, so that streams pass
    untouched.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: HttpSettings,
        registry: CollectorRegistry,
        service: str,
        openai_errors: bool,
        traces: Traces | None,
    ) -> None:
        self._app, self._traces = app, traces
        self._key = settings.api_key.get_secret_value() if settings.api_key else None
        self._max_body = int(settings.max_body)
        self._openai_errors = openai_errors
        labels = ("method", "route", "status")
        self._requests = Counter(f"mpa_{service}_http_requests", "HTTP requests", labels, registry=registry)
        self._seconds = Histogram(
            f"mpa_{service}_http_request_seconds", "HTTP request time", labels[:2], registry=registry
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        request_id = headers.get("x-request-id") or secrets.token_hex(8)
        with log_fields(request_id=request_id):
            if self._traces is None or not scope["path"].startswith("/v1/"):
                await self._serve(scope, receive, send, headers, request_id)
                return
            method, path = scope["method"], scope["path"]
            always = (method, path) in ALWAYS_TRACED
            with self._traces.root(f"{method} {path}", "server", headers.get(HEADER), always=always) as span:
                span.set_attribute("http.request.method", method)
                status = await self._serve(scope, receive, send, headers, request_id)
                span.update_name(f"{method} {_route_of(scope)}")
                span.set_attribute("http.route", _route_of(scope))
                span.set_attribute("http.response.status_code", status)

    async def _serve(
        self, scope: Scope, receive: Receive, send: Send, headers: Mapping[str, str], request_id: str
    ) -> int:
        """The status that was answered."""
        started, status = time.perf_counter(), 500

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message.setdefault("headers", []).append((b"x-request-id", request_id.encode("latin-1")))
            await send(message)

        try:
            error = self._refusal(scope["path"], headers)
            if error is not None:
                as_openai = self._openai_errors and scope["path"].startswith(OPENAI_PATHS)
                response = openai_response(error) if as_openai else problem_response(error)
                await response(scope, receive, send_marked)
            else:
                await self._app(scope, self._limited(scope["path"], receive), send_marked)
        finally:
            route = _route_of(scope)
            self._requests.labels(scope["method"], route, str(status)).inc()
            self._seconds.labels(scope["method"], route).observe(time.perf_counter() - started)
        return status

    def _refusal(self, path: str, headers: Mapping[str, str]) -> MPAError | None:
        if self._key is not None and path.startswith("/v1/"):
            given = headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), self._key.encode()):
                return Unauthorized("Send the service's API key as 'Authorization: Bearer <key>'.")
        length = headers.get("content-length", "0")
        if not _is_upload(path) and length.isdigit() and int(length) > self._max_body:
            return self._too_large(int(length))
        return None

    def _limited(self, path: str, receive: Receive) -> Receive:
        if _is_upload(path):
            return receive
        seen = 0

        async def receive_limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max_body:
                raise self._too_large(seen)
            return message

        return receive_limited

    def _too_large(self, size: int) -> TooLarge:
        return TooLarge(f"The body has at least {size} bytes, more than the limit of {self._max_body} (MPA_MAX_BODY).")


def _route_of(scope: Scope) -> str:
    """The route's template, so that there are as many label values as routes, not as paths."""
    return str(getattr(scope.get("route"), "path", "none"))


def _is_upload(path: str) -> bool:
    """Uploads have a limit of their own, checked while they stream."""
    return path.startswith("/v1/uploads")
