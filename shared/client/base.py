"""What all clients share: a pooled connection, a timeout for every call, and typed errors."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from opentelemetry.trace import SpanKind
from pydantic import BaseModel, ValidationError

from shared.compatibility import read_shown
from shared.contracts import Health
from shared.errors import Unavailable, UpstreamError
from shared.telemetry.tracing import span, trace_headers

M = TypeVar("M", bound=BaseModel)


class HttpClient:
    """One pooled connection to one service. ``timeout`` in seconds."""

    def __init__(
        self, base_url: str, *, api_key: str | None = None, timeout: float = 60.0, max_connections: int = 64
    ) -> None:
        self.base_url = base_url.rstrip("/").removesuffix("/v1")
        self._http = httpx.AsyncClient(
            base_url=self.base_url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(timeout, connect=min(timeout, 10.0)),
            verify=certificates(),
            limits=httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def health(self) -> Health:
        """The body of ``/readyz``, whatever its status."""
        try:
            response = await self._http.get("/readyz")
            return read_shown(Health, response.content)
        except (httpx.HTTPError, ValidationError) as error:
            raise Unavailable(f"{self.base_url} does not answer: {_words(error)}.") from error

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = await self._request(method, path, options)
        except httpx.TimeoutException as error:
            raise Unavailable(f"{method} {self.base_url}{path} did not answer in time: {_words(error)}.") from error
        except httpx.HTTPError as error:
            raise Unavailable(f"{self.base_url} cannot be reached: {_words(error)}.") from error
        if response.status_code >= 400:
            raise upstream_error(response)
        return response

    async def _request(self, method: str, path: str, options: dict[str, Any]) -> httpx.Response:
        with span(f"{method} {path.partition('?')[0]}", {"server.address": self.base_url}, SpanKind.CLIENT) as traced:
            headers = {**(options.pop("headers", None) or {}), **trace_headers()}
            response = await self._http.request(method, path, headers=headers, **options)
            traced.set_attribute("http.response.status_code", response.status_code)
            return response

    async def _call(self, model: type[M], method: str, path: str, **options: Any) -> M:
        response = await self._send(method, path, **options)
        return self._parse(model, response)

    def _parse(self, model: type[M], response: httpx.Response) -> M:
        try:
            return read_shown(model, response.content)
        except ValidationError as error:
            problem = error.errors()[0]
            raise UpstreamError(
                f"{response.request.url} sent no valid {model.__name__} ({problem['loc']}: {problem['msg']}).",
                upstream_status=response.status_code,
            ) from error


@cache
def certificates() -> ssl.SSLContext:
    """The TLS context, built once per process: that takes about 20 ms, and probes make a client for each call."""
    return httpx.create_ssl_context()


def upstream_error(response: httpx.Response) -> MPAUpstream:
    """The typed error of a failed response: 429 and 503 are Unavailable (worth a retry), all others UpstreamError."""
    detail = f"{response.request.method} {response.request.url} answered {response.status_code}: {_detail_of(response)}"
    retry_after = _retry_after(response.headers.get("Retry-After"))
    if response.status_code in (429, 502, 503, 504):
        return Unavailable(detail, retry_after=retry_after, upstream_status=response.status_code)
    return UpstreamError(detail, upstream_status=response.status_code, retry_after=retry_after)


MPAUpstream = Unavailable | UpstreamError


def _detail_of(response: httpx.Response) -> str:
    try:
        body = response.json()
    except ValueError:
        return response.text[:300]
    if isinstance(body, dict):
        error = body.get("error")
        found = body.get("detail") or (error.get("message") if isinstance(error, dict) else error)
        return str(found or body)[:1000]
    return str(body)[:300]


def _retry_after(value: str | None) -> float | None:
    """Seconds from a Retry-After header (RFC 9110: a number of seconds, or an HTTP date)."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
