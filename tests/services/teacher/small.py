"""Drives the small model server of these tests, alone or below a real teacher service."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from PIL import Image

from shared.images import to_data_url
from shared.processes.ports import free_port
from tests.polling import wait_until
from tests.processes import find_descendant

SCRIPT = Path(__file__).with_name("small_model_server.py")


def _red_pixels() -> str:
    file = io.BytesIO()
    Image.new("RGB", (32, 32), (255, 0, 0)).save(file, "PNG")
    return to_data_url(file.getvalue())


RED_PIXELS = _red_pixels()


class SmallModel:
    """The folder that tells the small server what to do and holds what it noted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "journal").touch()
        self.set("ok")

    def set(self, mode: str) -> None:
        new = self.folder / "mode.new"
        new.write_text(mode)
        new.replace(self.folder / "mode")

    def command(self, port: int) -> list[str]:
        return [sys.executable, str(SCRIPT), f"--port={port}"]

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "SMALL_FOLDER": str(self.folder)}

    def notes(self, kind: str) -> list[str]:
        lines = (self.folder / "journal").read_text().splitlines()
        return [line.removeprefix(kind).strip() for line in lines if line.startswith(kind)]

    @property
    def helpers(self) -> list[int]:
        """Processes that the small servers started; one a run."""
        return [int(pid) for pid in self.notes("helper")]

    def interpreter(self) -> Path:
        """An executable that is called like a Python with vLLM, and runs the small server."""
        path = self.folder / "python"
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{SCRIPT}" "$@"\n')
        path.chmod(0o755)
        return path


class Service:
    """A running ``python -m services.teacher``; as a context, it is stopped at the end whatever happened."""

    def __init__(self, log: Path, **settings: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        env = {**os.environ, "MPA_TEACHER_PORT": str(self.port), "MPA_DATA_DIR": str(log.parent), **settings}
        with log.open("wb") as file:
            command = [sys.executable, "-m", "services.teacher"]
            self.process = subprocess.Popen(command, env=env, stdout=file, stderr=subprocess.STDOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def readiness(self) -> dict[str, Any]:
        """``/readyz``; not ready while nobody listens."""
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            health: dict[str, Any] = httpx.get(f"{self.url}/readyz", timeout=5).json()
        except httpx.HTTPError as error:
            return {"ready": False, "reason": type(error).__name__}
        return health

    def wait_ready(self, timeout: float = 60.0) -> None:
        wait_until(lambda: self.readiness()["ready"], timeout, every=0.1)

    def wait_listening(self, timeout: float = 60.0) -> None:
        wait_until(lambda: "service" in self.readiness(), timeout, every=0.1)

    def server_pid(self, words: str) -> int:
        return find_descendant(self.process.pid, words)

    def post(self, body: Any, timeout: float = 30.0, **options: Any) -> httpx.Response:
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=timeout, **options)

    def stop(self) -> int:
        """SIGTERM, and the exit code; a service that does not stop fails the test."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


def chat(text: str = "What colour is it?", image: str | None = RED_PIXELS, **params: Any) -> dict[str, Any]:
    """The body of a chat request."""
    content: list[dict[str, Any]] = [{"type": "text", "text": text}]
    if image is not None:
        content.insert(0, {"type": "image_url", "image_url": {"url": image}})
    return {"model": "teacher", "messages": [{"role": "user", "content": content}], "max_tokens": 8, **params}


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True
