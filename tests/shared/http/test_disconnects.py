"""Work for a client that hangs up is dropped, over a real connection; other work is answered."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import httpx
from fastapi import FastAPI, Request

from shared.http.disconnects import ClientGone, unless_gone
from tests.quick_server import serving


async def test_what_is_done_in_time_is_answered() -> None:
    app = FastAPI()

    async def double(number: int) -> int:
        return 2 * number

    @app.get("/double")
    async def route(request: Request) -> int:
        return await unless_gone(request, double(21))

    async with serving(app) as url, httpx.AsyncClient(base_url=url) as client:
        assert (await client.get("/double")).json() == 42


async def test_work_for_a_client_that_hung_up_is_cancelled() -> None:
    app = FastAPI()
    begun, cancelled, told = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    @app.get("/work")
    async def route(request: Request) -> None:
        try:
            await unless_gone(request, work())
        except ClientGone:
            told.set()

    async with serving(app) as url, asyncio.timeout(10):
        _, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
        writer.write(b"GET /work HTTP/1.1\r\nHost: test\r\n\r\n")
        await begun.wait()
        assert not cancelled.is_set()
        writer.close()
        await cancelled.wait()
        await told.wait()
