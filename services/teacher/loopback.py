"""Connections to the one server below us."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

import httpx

ONE = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=60.0)


class LoopbackTransport(httpx.AsyncBaseTransport):
    """One connection a request, the last used first.

    httpx's own pool looks at each of its connections several times a request, which was more than half of what the
    service cost at 40 connections.
    """

    def __init__(self) -> None:
        self._idle: list[httpx.AsyncHTTPTransport] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used; without it each would load all CAs

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        line = self._idle.pop() if self._idle else self._new()
        try:
            response = await line.handle_async_request(request)
        except BaseException:
            await line.aclose()
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)
        stream = _Lent(response.stream, line, self._idle)
        return httpx.Response(
            response.status_code, headers=response.headers, stream=stream, extensions=response.extensions
        )

    async def aclose(self) -> None:
        while self._idle:
            await self._idle.pop().aclose()

    def _new(self) -> httpx.AsyncHTTPTransport:
        return httpx.AsyncHTTPTransport(verify=self._context, limits=ONE, trust_env=False)


class _Lent(httpx.AsyncByteStream):
    """A response's body; its connection can be used again once it is closed."""

    def __init__(
        self, body: httpx.AsyncByteStream, line: httpx.AsyncHTTPTransport, idle: list[httpx.AsyncHTTPTransport]
    ) -> None:
        self._body, self._line, self._idle = body, line, idle

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._body:
            yield part

    async def aclose(self) -> None:
        await self._body.aclose()
        if self._line not in self._idle:
            self._idle.append(self._line)
