"""What all clients share, against a real HTTP server: typed errors, Retry-After, timeouts."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse

from shared.client import ParityClient
from shared.errors import Unavailable, UpstreamError
from tests.quick_server import serving
from tests.shared.client.asking import answering, ask


@pytest.mark.parametrize("status", [429, 503])
async def test_overload_is_unavailable_with_its_retry_after(status: int) -> None:
    async with serving(answering(JSONResponse({"detail": "later"}, status, headers={"Retry-After": "7"}))) as url:
        with pytest.raises(Unavailable, match="later") as caught:
            await ask(url)
    assert caught.value.retry_after == 7


async def test_retry_after_as_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    async with serving(answering(Response(status_code=503, headers={"Retry-After": date}))) as url:
        with pytest.raises(Unavailable) as caught:
            await ask(url)
    assert caught.value.retry_after is not None
    assert 20 < caught.value.retry_after <= 31


async def test_client_errors_carry_the_servers_words() -> None:
    body = {"error": {"message": "top_logprobs must be at most 20", "type": "invalid_request_error"}}
    async with serving(answering(JSONResponse(body, 400))) as url:
        with pytest.raises(UpstreamError, match="at most 20") as caught:
            await ask(url)
    assert caught.value.upstream_status == 400


async def test_nonsense_is_an_upstream_error() -> None:
    async with serving(answering(Response("<html>", media_type="text/html"))) as url:
        with pytest.raises(UpstreamError, match="no valid ChatResponse"):
            await ask(url)


async def test_nobody_there(free_port: int) -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        await ask(f"http://127.0.0.1:{free_port}")
    async with ParityClient(f"http://127.0.0.1:{free_port}") as client:
        with pytest.raises(Unavailable):
            await client.jobs()


async def test_a_server_that_hangs_times_out() -> None:
    app = FastAPI()
    release = asyncio.Event()

    @app.post("/v1/chat/completions")
    async def chat() -> None:
        await release.wait()

    async with serving(app) as url:
        with pytest.raises(Unavailable, match="did not answer in time"):
            await ask(url, timeout=0.2)
        release.set()
