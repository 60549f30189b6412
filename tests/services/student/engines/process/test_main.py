"""The model's process as the student service starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from shared.processes.ports import free_port
from tests.polling import wait_until
from tests.processes import find_descendant
from tests.services.student.engines.process.test_engine import MODEL_PROCESS
from tests.services.teacher.small import gone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def test_no_process_is_left_by_a_service_that_is_killed(base: Path, tmp_path: Path) -> None:
    port = free_port()
    environment = {
        "MPA_DATA_DIR": str(tmp_path),
        "MPA_STUDENT_MODEL": str(base),
        "MPA_STUDENT_PORT": str(port),
        "MPA_STUDENT_PROCESS": "process",
        "MPA_REDIS_URL": "",
    }
    with subprocess.Popen([sys.executable, "-m", "services.student"], env={**os.environ, **environment}) as service:

        def ready() -> bool:
            assert service.poll() is None
            try:
                return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == 200
            except httpx.TransportError:
                return False

        try:
            wait_until(ready, 100, 0.2)
            model = find_descendant(service.pid, MODEL_PROCESS)
        finally:
            service.kill()
        wait_until(lambda: gone(model), 20)
