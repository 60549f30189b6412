"""A student service in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import httpx

from shared.checkpoints import CheckpointRegistry, build_card
from shared.processes.ports import free_port
from shared.store import Store

READY_SECONDS = 300.0


@dataclass(frozen=True)
class StudentProcess:
    """Where the student listens, and its process id."""

    port: int
    pid: int
    data_dir: Path

    def cpu_seconds(self) -> float:
        """CPU time that the service has used, which other work on the machine hardly changes."""
        return cpu_seconds(self.pid)

    def child_cpu_seconds(self) -> float:
        """The same of the process that runs its model, if there is one."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return sum(cpu_seconds(int(child)) for child in children)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def student(
    model: Path, data_dir: Path, environment: Mapping[str, str] | None = None, log: Path | None = None
) -> Iterator[StudentProcess]:
    """Serve ``model`` until the block ends; ``environment`` holds more MPA_* settings. Raises RuntimeError if the
    service does not get ready. It logs to ``log``, or else to the terminal.
    """
    port = free_port()
    settings = {
        "MPA_DATA_DIR": str(data_dir),
        "MPA_STUDENT_MODEL": str(model.absolute()),
        "MPA_STUDENT_PORT": str(port),
        "MPA_LOG_LEVEL": "WARNING",
        **(environment or {}),
    }
    with log.open("wb") if log else nullcontext() as stderr:
        command = [sys.executable, "-m", "services.student"]
        process = subprocess.Popen(command, env={**os.environ, **settings}, stderr=stderr)
    try:
        _wait_until_ready(process, port)
        yield StudentProcess(port, process.pid, data_dir)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def publish(served: StudentProcess, folder: Path, version: str) -> None:
    """Register a checkpoint where the student looks for it."""
    registry = CheckpointRegistry(Store((served.data_dir.absolute() / "store").as_uri()), "student")
    registry.publish(folder, build_card(folder, version=version, student="student", base="base"))


def activate(served: StudentProcess, version: str) -> float:
    """Swap; returns the seconds that it took."""
    started = time.perf_counter()
    response = httpx.put(
        f"http://127.0.0.1:{served.port}/v1/checkpoints/active",
        json={"version": version, "by": "benchmark"},
        timeout=300,
    )
    response.raise_for_status()
    return time.perf_counter() - started


def _wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"The student service ended with status {process.returncode} while it started.")
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"The student service was not ready after {READY_SECONDS:.0f} s.")
