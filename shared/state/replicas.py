"""What the replicas of one student share through Redis. Nothing here has to last: the registry is the truth.

Keys: ``mpa:student:<name>:replicas`` (set of ids), ``…:replica:<id>`` (its ReplicaInfo, expires), ``…:tally:<canary>``
(hash: replica to its counts), channel ``…:moved`` (something in the registry changed: look).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Self, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.compatibility import read_shown
from shared.contracts import ReplicaInfo
from shared.errors import Unavailable
from shared.state.connection import open_async_redis

CALL_SECONDS = 2.0
TALLY_LASTS = timedelta(days=7)
LISTEN_SECONDS = 1.0


class ReplicaBoard:
    """One replica's view of the others. Every call returns or raises Unavailable within a few seconds."""

    def __init__(self, redis: Redis, student: str) -> None:
        self._redis, self._prefix = redis, f"mpa:student:{student}"

    @classmethod
    def from_url(cls, url: str, student: str) -> Self:
        return cls(open_async_redis(url, CALL_SECONDS), student)

    async def announce(self, info: ReplicaInfo, lasts: timedelta) -> None:
        """Publish the state of this replica. It is forgotten after ``lasts`` unless it is published again."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.sadd(f"{self._prefix}:replicas", info.id)
        pipe.set(self._replica(info.id), info.model_dump_json(), px=lasts)
        with _typed_errors():
            await pipe.execute()

    async def leave(self, replica: str) -> None:
        """Forget a replica that shuts down."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.srem(f"{self._prefix}:replicas", replica)
        pipe.delete(self._replica(replica))
        with _typed_errors():
            await pipe.execute()

    async def replicas(self) -> list[ReplicaInfo]:
        """All replicas that announced themselves lately, by id."""
        with _typed_errors():
            names = await cast(Awaitable[set[bytes]], self._redis.smembers(f"{self._prefix}:replicas"))
            ids = sorted(name.decode(errors="replace") for name in names)
            raw = await self._redis.mget([self._replica(name) for name in ids]) if ids else []
            gone = [name for name, text in zip(ids, raw, strict=True) if text is None]
            if gone:
                await self._redis.srem(f"{self._prefix}:replicas", *gone)
        return [info for text in raw if text is not None and (info := _parsed(text)) is not None]

    async def tell(self) -> None:
        """Ask all replicas to look at the registry now."""
        with _typed_errors():
            await self._redis.publish(f"{self._prefix}:moved", b"look")

    async def told(self) -> AsyncIterator[None]:
        """Yields when listening begins (earlier calls of ``tell`` may have been missed), then at every ``tell``."""
        with _typed_errors():
            async with self._redis.pubsub() as pubsub:
                await pubsub.subscribe(f"{self._prefix}:moved")
                yield
                while True:
                    message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=LISTEN_SECONDS)
                    if message is not None:
                        yield

    async def count(self, canary: str, replica: str, tally: str) -> None:
        """Publish everything that a replica has counted so far for a canary. Replaces its earlier counts."""
        key = self._tally(canary)
        pipe = self._redis.pipeline(transaction=False)
        pipe.hset(key, replica, tally)
        pipe.expire(key, TALLY_LASTS)
        with _typed_errors():
            await pipe.execute()

    async def counts(self, canary: str) -> dict[str, str]:
        """The counts of every replica that ever served the canary, also of those that are gone."""
        with _typed_errors():
            found = await cast(Awaitable[dict[bytes, bytes]], self._redis.hgetall(self._tally(canary)))
        return {name.decode(errors="replace"): text.decode(errors="replace") for name, text in found.items()}

    async def aclose(self) -> None:
        await self._redis.aclose()

    def _replica(self, replica: str) -> str:
        return f"{self._prefix}:replica:{replica}"

    def _tally(self, canary: str) -> str:
        return f"{self._prefix}:tally:{canary}"


@contextmanager
def _typed_errors() -> Any:
    try:
        yield
    except (RedisError, OSError) as error:
        raise Unavailable(f"Redis does not answer ({type(error).__name__}: {error}): see MPA_REDIS_URL.") from error


def _parsed(text: bytes | str) -> ReplicaInfo | None:
    """None for what a replica of another release wrote."""
    try:
        return read_shown(ReplicaInfo, text)
    except ValueError:
        return None
