"""A real Redis that is full, a replica, or cannot save: everyone is told so alike, and goes on when it is over."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import redis
from kombu.exceptions import OperationalError
from redis.exceptions import ResponseError

from shared.errors import Unavailable
from shared.queue import COLLECT_QUEUE, enqueue_shard, make_celery, queue_depth
from shared.settings import CommonSettings
from shared.state import JobStore, RedisRefuses
from shared.state.connection import open_redis, refusal_of
from shared.state.replicas import ReplicaBoard
from tests.embedded_redis import EmbeddedRedis, start_embedded_redis
from tests.polling import wait_until
from tests.shared.state.conftest import stored

Trouble = Callable[[redis.Redis], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    server = start_embedded_redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def admin(own_redis: EmbeddedRedis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(own_redis.url) as client:
        client.flushall()
        yield client


@pytest.fixture
async def store(own_redis: EmbeddedRedis, admin: redis.Redis) -> AsyncIterator[JobStore]:
    jobs = JobStore.from_url(own_redis.url)
    yield jobs
    await jobs.aclose()


@contextmanager
def full(admin: redis.Redis) -> Iterator[None]:
    admin.config_set("maxmemory", "1")
    try:
        yield
    finally:
        admin.config_set("maxmemory", "0")


@contextmanager
def a_replica(admin: redis.Redis) -> Iterator[None]:
    admin.config_set("replica-serve-stale-data", "yes")
    admin.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        yield
    finally:
        admin.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def a_replica_without_data(admin: redis.Redis) -> Iterator[None]:
    admin.config_set("replica-serve-stale-data", "no")
    admin.config_set("replica-read-only", "no")
    admin.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        yield
    finally:
        admin.execute_command("REPLICAOF", "NO", "ONE")
        admin.config_set("replica-read-only", "yes")


@contextmanager
def without_replicas(admin: redis.Redis) -> Iterator[None]:
    admin.config_set("min-replicas-to-write", "1")
    try:
        yield
    finally:
        admin.config_set("min-replicas-to-write", "0")


@contextmanager
def unable_to_save(admin: redis.Redis) -> Iterator[None]:
    """It stops taking writes when it could not write its snapshot: here a folder has that name."""
    snapshot = Path(admin.config_get("dir")["dir"]) / admin.config_get("dbfilename")["dbfilename"]  # type: ignore[index]
    snapshot.unlink(missing_ok=True)
    (snapshot / "x").mkdir(parents=True)
    admin.config_set("appendonly", "no")
    admin.config_set("save", "3600 1")
    admin.bgsave()
    wait_until(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err")  # type: ignore[index]
    try:
        yield
    finally:
        shutil.rmtree(snapshot)
        admin.config_set("save", "")
        admin.config_set("appendonly", "yes")


TROUBLES: list[tuple[Trouble, str]] = [
    (full, "Redis is full and takes no writes: raise maxmemory"),
    (a_replica, "Redis is a read-only replica"),
    (a_replica_without_data, "Redis is a replica that has lost its primary"),
    (without_replicas, "too few replicas"),
    (unable_to_save, "cannot save to its disk"),
]


@pytest.mark.parametrize(("trouble", "words"), TROUBLES, ids=[trouble.__name__ for trouble, _ in TROUBLES])
async def test_every_user_of_redis_is_told_what_is_the_matter_and_goes_on(
    own_redis: EmbeddedRedis, admin: redis.Redis, store: JobStore, trouble: Trouble, words: str
) -> None:
    await store.create(stored("before"))
    app = make_celery(CommonSettings(redis_url=own_redis.url))
    app.conf.task_publish_retry = False
    with trouble(admin):
        for call in (store.ping, lambda: store.create(stored("new")), lambda: store.fail("before", "x")):
            with pytest.raises(RedisRefuses, match=words):
                await call()
        with open_redis(own_redis.url, 5.0) as client, pytest.raises(RedisRefuses, match=words):
            client.set("x", "1")
        with pytest.raises(OperationalError, match=words):  # to kombu, an outage: it connects again
            enqueue_shard(app, "new", 0)
        board = ReplicaBoard.from_url(own_redis.url, "student")
        with pytest.raises(Unavailable, match=words):
            await board.count("c", "r", "{}")
        await board.aclose()
    await store.ping()
    assert await store.known() == {"before"}
    assert await store.create(stored("new"))
    enqueue_shard(app, "new", 0)
    assert queue_depth(app, COLLECT_QUEUE) == 1
    app.close()


async def test_a_full_redis_is_read(admin: redis.Redis, store: JobStore) -> None:
    await store.create(stored("job-1"))
    with full(admin):
        assert (await store.get("job-1")).id == "job-1"
        assert await store.active() == ["job-1"]


async def test_the_look_at_readiness_writes_nothing(admin: redis.Redis, store: JobStore) -> None:
    await store.ping()
    assert admin.dbsize() == 0
    await store.create(stored("job-1"))
    await store.ping()
    assert await store.known() == {"job-1"}


async def test_calls_at_the_same_time_are_told_each_by_itself(admin: redis.Redis, store: JobStore) -> None:
    await store.create(stored("job-1"))
    with full(admin):
        calls = [store.get("job-1") if number % 2 else store.ping() for number in range(20)]
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, RedisRefuses) for result in results[::2])
    assert not any(isinstance(result, BaseException) for result in results[1::2])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", "is full"),
        ("ERR Error running script (call to f_1): @user_script:12: -OOM command not allowed", "is full"),
        ("READONLY You can't write against a read only replica.", "read-only"),
        ("LOADING Redis is loading the dataset in memory", "still loading"),
        ("MISCONF Redis is configured to save RDB snapshots", "cannot save"),
        ("NOREPLICAS Not enough good replicas to write.", "too few replicas"),
        ("BUSY Redis is busy running a script.", "busy with a script"),
        ("CLUSTERDOWN The cluster is down", "down"),
    ],
)
def test_these_answers_pass_by_themselves(answer: str, words: str) -> None:
    refused = refusal_of(ResponseError(answer))
    assert refused is not None and words in str(refused)


@pytest.mark.parametrize(
    "answer",
    [
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        "ERR unknown command 'X'",
        "BUSYGROUP Consumer Group name already exists",
        "NOSCRIPT No matching script. Please use EVAL.",
        "NOPERM User x has no permissions to run the 'zadd' command",
    ],
)
def test_these_answers_concern_the_command(answer: str) -> None:
    assert refusal_of(ResponseError(answer)) is None
