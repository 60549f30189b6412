"""A real Redis that dies with the tests that started it."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from services.supervisor.redis_command import HOST, RedisUnavailable, redis_command
from shared.processes.ports import free_port
from tests.lifetime import die_with_parent

READY_SECONDS = 30.0
STOP_SECONDS = 5.0
PORT_TRIES = 3
LOG_FILE = "redis.log"


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


def _spawn(data_dir: Path, port: int) -> EmbeddedRedis:
    process = subprocess.Popen(
        redis_command(data_dir, port, logfile=LOG_FILE),
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
