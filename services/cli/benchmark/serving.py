"""A checkpoint folder behind an endpoint of its own, for as long as something asks it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from shared.client import StudentClient
from shared.errors import InvalidInput, Unavailable
from shared.processes.ports import free_port

READY_SECONDS = 600.0
STOP_SECONDS = 15.0
TAIL = 1500


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[str]:
    """The base URL of a student service that serves ``folder``; it ends with the block.

    Raises InvalidInput for what is no checkpoint, Unavailable if the service does not start.
    """
    if not (folder / "config.json").is_file():
        raise InvalidInput(f"{folder} is no checkpoint: a folder with config.json and safetensors is expected.")
    with tempfile.TemporaryDirectory(prefix="mpa-evaluate-") as scratch:
        url = f"http://127.0.0.1:{free_port()}"
        log = Path(scratch, "student.log")
        process = _start(folder, url, Path(scratch), log)
        try:
            await _ready(process, url, log)
            yield url
        finally:
            await asyncio.to_thread(_stop, process)


def _start(folder: Path, url: str, scratch: Path, log: Path) -> subprocess.Popen[bytes]:
    own = {name: value for name, value in os.environ.items() if name != "MPA_STORE"}
    settings = {
        "MPA_STUDENT_MODEL": str(folder.absolute()),
        "MPA_STUDENT_PORT": url.rpartition(":")[2],
        "MPA_HOST": "127.0.0.1",
        "MPA_DATA_DIR": str(scratch),
        "MPA_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",  # no other replica's pointer is followed
    }
    with log.open("wb") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "services.student"],
            env=own | settings,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


async def _ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    async with StudentClient(url, model="student", timeout=5.0) as client:
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not await client.ready():
                    if process.poll() is not None:
                        raise InvalidInput(f"The checkpoint cannot be served: {_tail(log)}")
                    await asyncio.sleep(0.2)
        except TimeoutError as error:
            raise Unavailable(f"The checkpoint was not served after {READY_SECONDS:.0f} s: {_tail(log)}") from error


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-TAIL:].strip()


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
