"""The student as a process: what it has begun it ends before it leaves."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import httpx
import pytest

from shared.processes.ports import free_port
from shared.settings import StudentSettings
from tests.services.student.small_replica import ask


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
