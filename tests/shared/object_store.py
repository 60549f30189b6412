"""A real S3 server over HTTP (moto's), atomic, on a port of its own, for one test module."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shared.processes.ports import free_port
from shared.store.remote import open_filesystem
from tests.polling import wait_until

ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


class ObjectServer:
    """``tests.shared.s3_server`` as a child; ``url`` is its endpoint."""

    def __init__(self, log: Path) -> None:
        self._port, self._log = free_port(), log
        self.url = f"http://127.0.0.1:{self._port}"
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as stream:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "tests.shared.s3_server", str(self._port)],
                cwd=Path(__file__).parents[2],
                env=os.environ | ENVIRONMENT,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        wait_until(self._answers, 30.0)

    def stop(self) -> None:
        if self._child is not None:
            self._child.send_signal(signal.SIGKILL)
            self._child.wait()
            self._child = None

    def check_signatures(self) -> None:
        """From now on, callers must have credentials, and rights, that its IAM knows."""
        self._post("/moto-api/reset-auth", b"0")

    def spoil(
        self, method: str, status: int, code: str = "", times: int = 1, *, done: bool = False, path: str = ""
    ) -> None:
        """Answer the next requests of that method and end of the path with an error.

        With ``done``, after doing what they ask for; with ``status`` 0, with the first half of the right answer.
        """
        fault = {"method": method, "status": status, "code": code, "done": done, "path": path, "hold": False}
        self._post("/faults", json.dumps([fault] * times).encode())

    def hold(self, method: str, path: str) -> None:
        """Answer the next request of that method and end of the path only after ``release``."""
        self._post("/faults", json.dumps([{"method": method, "path": path, "hold": True}]).encode())

    def release(self) -> None:
        self._post("/release")

    def spoil_nothing(self) -> None:
        self._post("/faults", b"[]")

    def faults_left(self) -> int:
        with urllib.request.urlopen(f"{self.url}/faults", timeout=10) as answer:
            return len(json.load(answer))

    def _post(self, path: str, body: bytes = b"") -> None:
        request = urllib.request.Request(self.url + path, data=body, headers={"Content-Type": "text/plain"})
        urllib.request.urlopen(request, timeout=10).close()

    def _answers(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"{self.url}/moto-api/", timeout=2):
            return True
        return False


def make_bucket() -> str:
    """The URL of a new bucket of the server that the environment names."""
    name = f"b-{uuid.uuid4().hex[:12]}"
    fs, _ = open_filesystem(f"s3://{name}")
    fs.mkdir(name)
    return f"s3://{name}"


@contextmanager
def object_server(folder: Path) -> Iterator[ObjectServer]:
    server = ObjectServer(folder / "moto.log")
    server.start()
    try:
        yield server
    finally:
        server.stop()
