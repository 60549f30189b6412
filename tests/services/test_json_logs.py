"""With MPA_LOG_FORMAT=json a service writes only JSON, one object a line. For workers see test_one_trace.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.polling import wait_until

READY_SECONDS = 120.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "child"),
    [("teacher", None), ("student", None), ("student", "student-model"), ("parity", None), ("trainer", None)],
)
def test_all_that_a_service_writes_is_json(
    name: str, child: str | None, tmp_path: Path, redis_url: str, free_port: int
) -> None:
    environment = {
        **os.environ,
        "MPA_LOG_FORMAT": "json",
        "MPA_DATA_DIR": str(tmp_path),
        "MPA_REDIS_URL": redis_url,
        "MPA_TEACHER_ENGINE": "transformers",
        "MPA_STUDENT_PROCESS": "process" if child else "thread",
        f"MPA_{name.upper()}_PORT": str(free_port),
    }
    log = tmp_path / "all.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", f"services.{name}"]
        service = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        wait_until(lambda: service.poll() is not None or ready(free_port), READY_SECONDS)
        asked = httpx.get(f"http://127.0.0.1:{free_port}/v1/nowhere", timeout=10)
    finally:
        service.terminate()
        assert service.wait(30) in (0, -15), log.read_text()
    assert asked.status_code == 404
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines and {name} <= {line["service"] for line in lines} <= {name, child}
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)


def ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
