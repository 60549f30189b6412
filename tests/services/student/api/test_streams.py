"""Answers that come in pieces, and what becomes of them when either side leaves."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.client import image_question
from shared.processes.ports import free_port
from shared.settings import StudentSettings
from tests.services.student.small_replica import ask, batches, data_url, running


async def stream_of(http: httpx.AsyncClient, **params: Any) -> list[dict[str, Any]]:
    body = ask(stream=True, **params).model_dump(mode="json", exclude_none=True)
    async with http.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.headers["x-mpa-checkpoint"] == "base"
        lines = [line.removeprefix("data: ") async for line in response.aiter_lines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


async def test_a_stream_says_what_the_whole_answer_says(settings: StudentSettings) -> None:
    params = {"n": 2, "max_tokens": 12, "logprobs": True, "top_logprobs": 2}
    async with running(settings) as (client, _), httpx.AsyncClient(base_url=client.base_url, timeout=60) as http:
        whole = (await client.chat(ask(**params))).response
        chunks = await stream_of(http, stream_options={"include_usage": True}, **params)
    choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    for expected in whole.choices:
        mine = [c for c in choices if c["index"] == expected.index]
        tokens = [t for c in mine for t in (c.get("logprobs") or {"content": []})["content"]]
        assert "".join(c["delta"].get("content", "") for c in mine) == expected.message.content
        assert expected.logprobs is not None
        assert tokens == [t.model_dump() for t in expected.logprobs.content or []]
        assert [c["finish_reason"] for c in mine if c["finish_reason"]] == [expected.finish_reason]
    assert [c["index"] for c in choices] != sorted(c["index"] for c in choices), "choices come as they are decoded"
    assert whole.usage is not None
    assert chunks[-1]["usage"] == whole.usage.model_dump()


async def test_a_refused_stream_has_a_status_of_its_own(settings: StudentSettings) -> None:
    async with running(settings) as (client, _), httpx.AsyncClient(base_url=client.base_url, timeout=60) as http:
        request = image_question("student", data_url(), "why " * 1200, max_tokens=2, stream=True)
        response = await http.post("/v1/chat/completions", json=request.model_dump(mode="json", exclude_none=True))
    assert response.status_code == 400
    assert "the model reads at most" in response.json()["error"]["message"]


async def test_a_client_that_hangs_up_stops_its_work(settings: StudentSettings) -> None:
    """A stream is left after its first chunk, and so is a request that waits behind it, which is never begun."""
    alone = settings.model_copy(update={"student_max_batch": 1, "student_max_tokens": 900})
    async with running(alone) as (client, _), httpx.AsyncClient(base_url=client.base_url, timeout=60) as http:
        body = ask(stream=True, max_tokens=900).model_dump(mode="json", exclude_none=True)
        async with http.stream("POST", "/v1/chat/completions", json=body) as response:
            lines = response.aiter_lines()
            await anext(lines)
            waiting = asyncio.create_task(client.chat(ask(max_tokens=900)))
            async with asyncio.timeout(30):
                while (await http.get("/readyz")).json()["details"]["queued"] < 1:
                    await asyncio.sleep(0.01)
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                await waiting
            async with asyncio.timeout(30):
                while 'status="499"' not in (await http.get("/metrics")).text:
                    await asyncio.sleep(0.01)
        await client.chat(ask())
        assert (await batches(http))[1] == 2, "the stream and the last request"


@pytest.mark.slow
async def test_requests_in_flight_at_sigterm_finish(settings: StudentSettings, base: Path) -> None:
    port = free_port()
    environment = {
        **os.environ,
        "MPA_DATA_DIR": str(settings.data_dir),
        "MPA_STUDENT_MODEL": str(base),
        "MPA_STUDENT_PORT": str(port),
        "MPA_SHUTDOWN_GRACE": "60",
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "services.student", env=environment)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            async with asyncio.timeout(180):
                while not await _answers(http):
                    await asyncio.sleep(0.1)
            body = ask(stream=True, max_tokens=200, seed=6).model_dump(mode="json", exclude_none=True)
            async with http.stream("POST", "/v1/chat/completions", json=body) as response:
                lines = response.aiter_lines()
                await anext(lines)
                process.terminate()
                rest = [line async for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        async with asyncio.timeout(60):
            assert await process.wait() in (0, -signal.SIGTERM)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _answers(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False
