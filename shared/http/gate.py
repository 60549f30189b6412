"""What every request passes through first: request id, API key, body limit, trace and metrics."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Mapping

from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.errors import MPAError, TooLarge, Unauthorized
from shared.http.errors import openai_response, problem_response, speaks_openai
from shared.settings import HttpSettings
from shared.telemetry import log_fields
from shared.telemetry.tracing import HEADER, Traces

ALWAYS_TRACED = {("POST", "/v1/jobs")}
"""These requests are rare, and the work that they start is worth a trace."""


class Gate:
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
            with self._traces.root(f"{method} {path}", SpanKind.SERVER, headers.get(HEADER), always=always) as span:
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
                as_openai = self._openai_errors and speaks_openai(scope)
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
    """The route's template: labels by path would grow without limit."""
    return str(getattr(scope.get("route"), "path", "none"))


def _is_upload(path: str) -> bool:
    """Uploads have their own limit, which is checked while they stream."""
    return path.startswith("/v1/uploads")
