"""The API as a process: SIGTERM ends it soon, even while clients listen to events."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.settings import ParitySettings
from tests.polling import async_wait_until

pytestmark = [pytest.mark.slow]


def start(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "services.parity"], env=environment)


async def test_open_event_streams_do_not_hold_up_the_end(
    settings: ParitySettings, tmp_path: Path, free_port: int, spec: Callable[..., dict[str, Any]]
) -> None:
    environment = {
        **os.environ,
        "MPA_STORE": settings.store_url,
        "MPA_REDIS_URL": settings.redis_url,
        "MPA_TASKS_FILE": str(settings.tasks_file),
        "MPA_IMAGE_ROOTS": f'["{tmp_path}"]',
        "MPA_PARITY_PORT": str(free_port),
    }
    process = start(environment)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{free_port}", timeout=30) as http:

            async def ready() -> bool:
                try:
                    return (await http.get("/readyz")).status_code == 200
                except httpx.HTTPError:
                    return False

            await async_wait_until(ready, timeout=60.0)
            job = (await http.post("/v1/jobs", json=spec())).json()
            async with http.stream("GET", f"/v1/jobs/{job['id']}/events") as stream:
                lines = stream.aiter_lines()
                assert (await anext(lines)).startswith("id: ")
                process.send_signal(signal.SIGTERM)
                started = time.monotonic()
                rest = [line async for line in lines]
        process.wait(10)
        assert time.monotonic() - started < 8
        assert any(line.startswith("data: ") for line in rest)
    finally:
        process.kill()
        process.wait(10)
