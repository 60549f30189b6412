"""Wakes the waiters in this process when a job changes, by one Redis subscription for all of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.concurrency import end_loops
from shared.state.redis_hash import CHANNEL

log = logging.getLogger(__name__)

# A message can be lost while Redis restarts, so waiters also read the version this often (seconds).
LOOK_EVERY = 2.0
RECONNECT_AFTER = 0.5


class ChangeFeed:
    """The first waiter starts it. ``stop`` ends it and wakes all waiters."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._waiters: dict[str, set[asyncio.Event]] = {}
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    async def wait(self, job_id: str, version: int, timeout: float, look: Callable[[], Awaitable[int]]) -> int:
        """What ``look`` returns as soon as it is not ``version``, or after ``timeout`` seconds, or at ``stop``."""
        event = asyncio.Event()
        self._waiters.setdefault(job_id, set()).add(event)
        self._start()
        try:
            deadline = asyncio.get_running_loop().time() + timeout
            while True:
                event.clear()
                current = await look()
                left = deadline - asyncio.get_running_loop().time()
                if current != version or left <= 0 or self._stopped:
                    return current
                try:
                    async with asyncio.timeout(min(left, LOOK_EVERY)):
                        await event.wait()
                except TimeoutError:
                    continue
        finally:
            waiters = self._waiters[job_id]
            waiters.discard(event)
            if not waiters:
                del self._waiters[job_id]

    def wake_all(self) -> None:
        """End all waits now, because the process is stopping."""
        self._stopped = True
        for events in self._waiters.values():
            for event in events:
                event.set()

    @property
    def stopped(self) -> bool:
        return self._stopped

    async def stop(self) -> None:
        self.wake_all()
        if self._task is not None:
            await end_loops({self._task})
            self._task = None

    def _start(self) -> None:
        if self._task is None and not self._stopped:
            self._task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await pubsub.subscribe(CHANNEL)
                    while True:
                        message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1.0)
                        if message is not None:
                            self._wake(message["data"])
            except (RedisError, OSError) as error:
                log.warning("Lost the subscription to job changes (%s); subscribing again.", error)
                await asyncio.sleep(RECONNECT_AFTER)

    def _wake(self, data: bytes | str) -> None:
        text = data.decode(errors="replace") if isinstance(data, bytes) else data
        for event in self._waiters.get(text.partition(" ")[0], ()):
            event.set()
