"""Living workers announce themselves in Redis, with their release. Only `mpa doctor` reads it.

Keys: ``mpa:workers`` (set of ids), ``mpa:worker:<id>`` (its WorkerInfo, expires).
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import redis

from shared.compatibility import RELEASE, SCHEMA, read_shown
from shared.contracts import WorkerInfo
from shared.processes.names import process_name
from shared.state.connection import open_redis

log = logging.getLogger(__name__)

WORKERS = "mpa:workers"
# As in shared.queue, which needs Celery; the command line does without it.
QUEUES = {"parity": "collect", "trainer": "train"}
EVERY_SECONDS = 10.0
LASTS = timedelta(seconds=45)
CALL_SECONDS = 5.0


@contextmanager
def present(redis_url: str, kind: str, every: float = EVERY_SECONDS) -> Iterator[WorkerInfo]:
    """Announce a worker of this ``kind`` every ``every`` seconds while the block runs."""
    host, now = socket.gethostname(), datetime.now(UTC)
    name = f"{kind}-{process_name()}"
    info = WorkerInfo(
        id=name, kind=kind, host=host, release=RELEASE, schema_version=SCHEMA, started_at=now, seen_at=now
    )
    over = threading.Event()
    thread = threading.Thread(target=_keep_saying, args=(redis_url, info, every, over), name="presence", daemon=True)
    thread.start()
    try:
        yield info
    finally:
        over.set()
        thread.join(2 * CALL_SECONDS)


def living_workers(redis_url: str, timeout: float = CALL_SECONDS) -> list[WorkerInfo]:
    """All workers that announced themselves lately, by id. Raises redis' ConnectionError and TimeoutError."""
    with open_redis(redis_url, timeout) as client:
        ids = sorted(name.decode(errors="replace") for name in cast(set[bytes], client.smembers(WORKERS)))
        found = cast(list[bytes | None], client.mget([_key(name) for name in ids])) if ids else []
    return [info for text in found if text is not None and (info := _parsed(text)) is not None]


def _keep_saying(redis_url: str, info: WorkerInfo, every: float, over: threading.Event) -> None:
    with open_redis(redis_url, CALL_SECONDS) as client:
        while True:
            _tell(client, info.model_copy(update={"seen_at": datetime.now(UTC)}))
            if over.wait(every):
                break
        _leave(client, info.id)


def _tell(client: redis.Redis, info: WorkerInfo) -> None:
    pipe = client.pipeline(transaction=False)
    gone = [name for name, lives in _known(client) if not lives]
    if gone:
        pipe.srem(WORKERS, *gone)
    pipe.sadd(WORKERS, info.id)
    pipe.set(_key(info.id), info.model_dump_json(), px=LASTS)
    _run(pipe)


def _known(client: redis.Redis) -> list[tuple[str, bool]]:
    try:
        ids = [name.decode(errors="replace") for name in cast(set[bytes], client.smembers(WORKERS))]
        raw: Any = client.mget([_key(name) for name in ids]) if ids else []
    except (redis.RedisError, OSError):
        return []
    return [(name, text is not None) for name, text in zip(ids, raw, strict=True)]


def _leave(client: redis.Redis, name: str) -> None:
    pipe = client.pipeline(transaction=False)
    pipe.srem(WORKERS, name)
    pipe.delete(_key(name))
    _run(pipe)


def _run(pipe: Any) -> None:
    try:
        pipe.execute()
    except (redis.RedisError, OSError) as error:
        log.debug("This worker could not be announced in Redis: %s", error)


def _key(name: str) -> str:
    return f"mpa:worker:{name}"


def _parsed(text: bytes) -> WorkerInfo | None:
    try:
        return read_shown(WorkerInfo, text)
    except ValueError:
        return None


def waiting_messages(redis_url: str, timeout: float = CALL_SECONDS) -> dict[str, int]:
    """Messages that wait in the queue of each kind of worker. Those that a worker has taken do not count."""
    with open_redis(redis_url, timeout) as client:
        return {kind: int(cast(int, client.llen(queue))) for kind, queue in QUEUES.items()}
