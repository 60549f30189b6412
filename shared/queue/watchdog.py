"""Notices a worker that takes no messages although it is free and some wait: reconnects it, then ends its process.

A supervisor, a container's restart policy or Kubernetes starts the process again.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis
from celery.signals import worker_ready

from shared.state.connection import open_redis

log = logging.getLogger(__name__)

CALL_SECONDS = 5.0
EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h."""


@dataclass(frozen=True)
class Patience:
    """Times in seconds. ``every``: between two looks; ``looks``: looks in a row that have to find the worker deaf.

    ``farewell``: time that a worker has to give its work back before it is killed.
    """

    every: float = 5.0
    looks: int = 12
    farewell: float = 30.0


class Workload:
    """How many messages this worker has begun, and how many it works on now. Safe from any thread."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self._begun = self._running = 0

    @contextmanager
    def message(self) -> Iterator[None]:
        """Count a message from its arrival until its work has ended."""
        with self._lock:
            self._begun += 1
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1

    @property
    def begun(self) -> int:
        return self._begun

    @property
    def is_free(self) -> bool:
        """Whether another message could be worked on."""
        return self._running < self._threads


@contextmanager
def watched(redis_url: str, queue: str, workload: Workload, patience: Patience | None = None) -> Iterator[None]:
    """Watch this process's worker on ``queue`` while the block runs."""
    over = threading.Event()
    watchdog = _Watchdog(redis_url, queue, workload, patience or Patience(), over)
    worker_ready.connect(watchdog.ready, weak=False)
    thread = threading.Thread(target=watchdog.run, name="watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        worker_ready.disconnect(watchdog.ready)
        thread.join(2 * CALL_SECONDS)


class _Watchdog:
    def __init__(
        self, redis_url: str, queue: str, workload: Workload, patience: Patience, over: threading.Event
    ) -> None:
        self._redis_url, self._queue = redis_url, queue
        self._workload, self._patience, self._over = workload, patience, over
        self._consumer: Any = None

    def ready(self, sender: Any = None, **_: Any) -> None:
        self._consumer = sender

    def run(self) -> None:
        steps: list[Callable[[], None]] = [self._reconnect, self._end]
        begun, deaf = self._workload.begun, 0
        with open_redis(self._redis_url, CALL_SECONDS) as client:
            while not self._over.wait(self._patience.every):
                if self._workload.begun != begun:
                    begun, deaf, steps = self._workload.begun, 0, [self._reconnect, self._end]
                elif self._consumer is None or not self._workload.is_free or not _waiting(client, self._queue):
                    deaf = 0
                else:
                    deaf += 1
                if deaf >= self._patience.looks:
                    deaf = 0
                    steps.pop(0)()

    def _reconnect(self) -> None:
        log.error(
            "Messages wait in the queue %s, and this free worker has taken none for %.0f s. It reconnects to Redis.",
            self._queue,
            self._patience.every * self._patience.looks,
        )
        if self._consumer.connection is not None:
            self._consumer.call_soon(_lose_connection)

    def _end(self) -> None:
        log.critical(
            "Messages wait in the queue %s, and this worker takes none after a new connection either. "
            "It gives its work back and exits, so that it is started again.",
            self._queue,
        )
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(self._patience.farewell)
        os._exit(EXIT_CODE)


def _lose_connection() -> None:
    raise ConnectionError("the watchdog ended this connection, because no message came through it")


def _waiting(client: redis.Redis, queue: str) -> int:
    """Messages in the queue; 0 while Redis is unavailable, because then no worker can take any."""
    try:
        return client.llen(queue)
    except (redis.RedisError, OSError):
        return 0
