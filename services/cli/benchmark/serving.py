"""A separate student service for one checkpoint folder, for as long as it is needed."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from shared.client import StudentClient
from shared.errors import InvalidInput, Unavailable
from shared.processes.child import Child
from shared.processes.ports import free_port
from shared.processes.reaper import Reaper

READY_SECONDS = 600.0
STOP_SECONDS = 15.0
TAIL_CHARACTERS = 1500


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[str]:
    """The base URL of a student service that serves ``folder``; it ends with the block, or with this process.

    Raises InvalidInput if ``folder`` is not a checkpoint that can be served, Unavailable if the service does not start.
    """
    if not (folder / "config.json").is_file():
        raise InvalidInput(f"{folder} is not a checkpoint: a folder with config.json and safetensors is expected.")
    scratch = Path(tempfile.mkdtemp(prefix="mpa-evaluate-"))
    reaper = Reaper(grace=STOP_SECONDS, delete=[scratch])
    try:
        url = f"http://127.0.0.1:{free_port()}"
        command = [sys.executable, "-m", "services.student"]
        service = Child(command, _environment(folder, url, scratch), reaper=reaper)
        try:
            await _ready(service, url)
            yield url
        finally:
            await service.stop(STOP_SECONDS)
    finally:
        await asyncio.to_thread(reaper.close)


def _environment(folder: Path, url: str, scratch: Path) -> Mapping[str, str]:
    own = {name: value for name, value in os.environ.items() if name != "MPA_STORE"}
    return own | {
        "MPA_STUDENT_MODEL": str(folder.absolute()),
        "MPA_STUDENT_PORT": url.rpartition(":")[2],
        "MPA_HOST": "127.0.0.1",
        "MPA_DATA_DIR": str(scratch),
        "MPA_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",  # no other replica's pointer is followed
    }


async def _ready(service: Child, url: str) -> None:
    async with StudentClient(url, model="student", timeout=5.0) as client:
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not await client.ready():
                    if not service.running:
                        await service.stop(0.0)  # so that its last lines have been read
                        raise InvalidInput(f"The checkpoint cannot be served: {_tail(service)}")
                    await asyncio.sleep(0.2)
        except TimeoutError as error:
            raise Unavailable(f"The checkpoint was not ready after {READY_SECONDS:.0f} s: {_tail(service)}") from error


def _tail(service: Child) -> str:
    return "\n".join(service.last_lines())[-TAIL_CHARACTERS:]
