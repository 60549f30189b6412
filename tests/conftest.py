"""Fixtures for all tests: a real Redis, free ports, a store, and an environment without leftovers."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest
import redis

from shared.state import JobStore
from tests.embedded_redis import EmbeddedRedis, start_embedded_redis
from tests.small_disk import Disk, mounted_disk

pytest_plugins = ["tests.parallel", "tests.real_system"]

# On a busy machine a single example can be slow, which says nothing about the code.
hypothesis.settings.register_profile("mpa", deadline=None)
hypothesis.settings.load_profile("mpa")
# Before any test imports torch: two OpenMP pools on two cores are many times slower, and no test may contact a hub.
TEST_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TORCHDYNAMO_DISABLE": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}
for name, value in TEST_ENVIRONMENT.items():
    os.environ.setdefault(name, value)


def forget_settings() -> None:
    """Remove all MPA_* variables."""
    for name in [name for name in os.environ if name.startswith("MPA_")]:
        del os.environ[name]


forget_settings()


def pytest_collection_finish() -> None:
    """What the test modules imported lives until the end: the garbage collector need not look at it each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_leftover_settings() -> Iterator[None]:
    """No test sees an MPA_* variable that another one set."""
    yield
    forget_settings()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """One real Redis for the whole session, on a free port. Do not kill it: start another one for that."""
    server = start_embedded_redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> str:
    """URL of an empty database."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture
async def jobs(redis_url: str) -> AsyncIterator[JobStore]:
    store = JobStore.from_url(redis_url)
    yield store
    await store.aclose()


@pytest.fixture
def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of one MiB with nothing else on it."""
    with mounted_disk(tmp_path / "disk") as disk:
        yield disk


@pytest.fixture
def tmp_store_url(tmp_path: Path) -> str:
    """URL of an empty store in a folder of this test."""
    return (tmp_path / "store").as_uri()
