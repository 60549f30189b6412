"""A real worker process and a real Redis that is killed: the worker takes messages again afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from shared.queue import enqueue_shard, make_celery
from shared.settings import CommonSettings
from tests.embedded_redis import EmbeddedRedis, start_embedded_redis
from tests.lifetime import die_with_parent
from tests.polling import wait_until

THREADS = 2
PATIENCE = 60.0


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    server = start_embedded_redis(tmp_path / "redis")
    yield server
    server.stop()


@contextmanager
def running_worker(
    folder: Path, redis_url: str, deaf: str = "none", every: float = 0.2
) -> Iterator[subprocess.Popen[bytes]]:
    environment = os.environ | {"MPA_REDIS_URL": redis_url, "MPA_METRICS_PORT": "0", "MPA_DATA_DIR": str(folder)}
    command = [sys.executable, "-m", "tests.shared.queue.recording_worker", *map(str, (folder, THREADS, deaf, every))]
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, preexec_fn=die_with_parent()
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("outage", ["shorter than the work", "longer than the work"])
def test_a_worker_takes_messages_after_an_outage_of_redis(
    tmp_path: Path, own_redis: EmbeddedRedis, outage: str
) -> None:
    """Every thread is busy when Redis dies. Work that ends during the outage cannot be acknowledged."""
    app = make_celery(CommonSettings(redis_url=own_redis.url))
    with running_worker(tmp_path, own_redis.url, every=PATIENCE):
        for shard in range(THREADS):
            enqueue_shard(app, "before", shard)
        begun = [tmp_path / f"before-{shard}.begun" for shard in range(THREADS)]
        wait_until(lambda: all(path.exists() for path in begun), PATIENCE)
        own_redis.process.send_signal(signal.SIGKILL)
        own_redis.process.wait()
        if outage == "longer than the work":
            (tmp_path / "before.may-end").touch()
            ended = [tmp_path / f"before-{shard}.ended" for shard in range(THREADS)]
            wait_until(lambda: all(path.exists() for path in ended), PATIENCE)
            wait_until(lambda: "could not be acknowledged" in (tmp_path / "worker.log").read_text(), PATIENCE)
        again = start_embedded_redis(tmp_path / "redis", port=own_redis.port)
        try:
            (tmp_path / "before.may-end").touch()
            (tmp_path / "after.may-end").touch()
            enqueue_shard(app, "after", 0)
            wait_until((tmp_path / "after-0.ended").exists, PATIENCE)
        finally:
            again.stop()


@pytest.mark.parametrize(
    ("begin", "end"),
    [("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"), ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE")],
    ids=["full", "a replica"],
)
def test_a_worker_outlasts_a_redis_that_takes_no_writes(
    tmp_path: Path, own_redis: EmbeddedRedis, begin: str, end: str
) -> None:
    """To kombu, its error answers were faults of the program, and ended the worker with code 0."""
    app = make_celery(CommonSettings(redis_url=own_redis.url))
    with running_worker(tmp_path, own_redis.url, every=PATIENCE) as worker, own_redis_client(own_redis) as admin:
        for shard in range(5 * THREADS):  # more than it takes ahead
            enqueue_shard(app, "before", shard)
        wait_until(lambda: all((tmp_path / f"before-{shard}.begun").exists() for shard in range(THREADS)), PATIENCE)
        admin.execute_command(*begin.split())
        (tmp_path / "before.may-end").touch()
        wait_until(lambda: "Redis is" in (tmp_path / "worker.log").read_text(), PATIENCE)
        time.sleep(2.0)  # a worker that ends does so within this time
        assert worker.poll() is None
        admin.execute_command(*end.split())
        (tmp_path / "after.may-end").touch()
        enqueue_shard(app, "after", 0)
        wait_until((tmp_path / "after-0.ended").exists, PATIENCE)
        assert worker.poll() is None


def own_redis_client(server: EmbeddedRedis) -> redis.Redis:
    return redis.Redis.from_url(server.url)


def test_a_deaf_worker_reconnects(tmp_path: Path, redis_url: str) -> None:
    with running_worker(tmp_path, redis_url, deaf="first") as process:
        (tmp_path / "job.may-end").touch()
        enqueue_shard(make_celery(CommonSettings(redis_url=redis_url)), "job", 0)
        wait_until((tmp_path / "job-0.ended").exists, PATIENCE)
        assert process.poll() is None
    assert "It reconnects to Redis" in (tmp_path / "worker.log").read_text()


def test_a_worker_that_stays_deaf_exits(tmp_path: Path, redis_url: str) -> None:
    with running_worker(tmp_path, redis_url, deaf="all") as process:
        enqueue_shard(make_celery(CommonSettings(redis_url=redis_url)), "job", 0)
        wait_until(lambda: process.poll() is not None, PATIENCE)
    assert "exits, so that it is started again" in (tmp_path / "worker.log").read_text()


def test_a_busy_worker_is_left_alone(tmp_path: Path, redis_url: str) -> None:
    """More messages than threads wait for longer than the watchdog's patience."""
    app = make_celery(CommonSettings(redis_url=redis_url))
    with running_worker(tmp_path, redis_url) as process:
        for shard in range(THREADS + 1):
            enqueue_shard(app, "job", shard)
        wait_until(lambda: len(list(tmp_path.glob("job-*.begun"))) == THREADS, PATIENCE)
        watched_since = time.monotonic()
        wait_until(lambda: time.monotonic() > watched_since + 2.0)
        assert process.poll() is None
        (tmp_path / "job.may-end").touch()
        wait_until(lambda: len(list(tmp_path.glob("job-*.ended"))) == THREADS + 1, PATIENCE)
    assert "reconnects" not in (tmp_path / "worker.log").read_text()
