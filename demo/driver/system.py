"""Start the real system (`python -m services`) in a folder of its own and stop it again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.files import locked

READY_SECONDS = 420.0
STOP_SECONDS = 20.0


class DemoError(Exception):
    """The demo cannot continue; the message says why and where to look."""


@dataclass
class System:
    """A running system: the supervisor's process and the URLs of the services."""

    process: subprocess.Popen[bytes]
    endpoints: Mapping[str, str]
    log: Path

    def check(self) -> None:
        """Raise DemoError if the supervisor has ended."""
        if self.process.poll() is not None:
            raise DemoError(
                f"The system ended with exit code {self.process.returncode}: see {self.log}.\n{tail(self.log)}"
            )

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def environment(data_dir: Path) -> dict[str, str]:
    """The demo's settings: everything on free ports, the embedded pair, images only from the demo's own folder."""
    return {
        **os.environ,
        "MPA_DATA_DIR": str(data_dir),
        "MPA_STORE": (data_dir.absolute() / "store").as_uri(),
        "MPA_TASKS_FILE": str(Path("demo/tasks.yaml").absolute()),
        "MPA_IMAGE_ROOTS": json.dumps([str(data_dir.absolute())]),
        "MPA_TEACHER_PORT": "0",
        "MPA_STUDENT_PORT": "0",
        "MPA_PARITY_PORT": "0",
        "MPA_TRAINER_PORT": "0",
        "PYTHONUNBUFFERED": "1",
    }


def start(data_dir: Path, settings: Mapping[str, str] | None = None) -> System:
    """Start the supervisor and wait until every service is ready; raises DemoError with the log's end if it does
    not. ``settings``: more MPA_* variables.
    """
    endpoints_file = data_dir / "endpoints.json"
    log = data_dir / "system.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "services"],
            env={**environment(data_dir), **(settings or {})},
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + READY_SECONDS
    system = System(process, {}, log)
    while time.monotonic() < deadline:
        system.check()
        endpoints = _read(endpoints_file)
        if endpoints:
            system.endpoints = endpoints
            return system
        time.sleep(0.25)
    system.stop()
    raise DemoError(f"The system was not ready after {READY_SECONDS:.0f} s: see {log}.\n{tail(log)}")


def refuse_if_running(data_dir: Path) -> None:
    """A system kept from an earlier demo would lose its folder: ask to stop it first."""
    if not data_dir.is_dir():
        return
    pid = _read(data_dir / "endpoints.json").get("pid", "unknown")
    running = (
        f"A demo system is still running in {data_dir} (process {pid}): stop it with `kill {pid}`, then try again."
    )
    with locked(data_dir / "mpa.lock", 0, DemoError(running)):
        pass


def tail(log: Path, lines: int = 25) -> str:
    if not log.exists():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found
