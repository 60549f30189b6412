"""Many creators at the same moment on a real S3 server: exactly one wins, and all others learn of it.

The server handles one request at a time, so what a creator asks first and what it writes then lie apart, as between
machines.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import TypeVar

import pytest

from shared.checkpoints import CheckpointRegistry, build_card
from shared.checkpoints.canaries import CanaryRegistry
from shared.contracts import CanaryRequest, CanaryState, Split, Verdict
from shared.errors import Conflict
from shared.sets import Row, read_shard, shard_numbers, write_shard
from shared.state import ShardResult
from shared.store import Store
from tests.shared.object_store import ENVIRONMENT, ObjectServer, make_bucket, object_server

pytestmark = pytest.mark.slow
CREATORS = 8
T = TypeVar("T")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    with object_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def url(server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in (ENVIRONMENT | {"AWS_ENDPOINT_URL": server.url}).items():
        monkeypatch.setenv(name, value)
    return f"{make_bucket()}/mpa"


def race(url: str, act: Callable[[Store, int], T]) -> list[T]:
    """What each of several threads got, all of which began at once with a store, and so connections, of its own."""
    start = Barrier(CREATORS)

    def run(number: int) -> T:
        store = Store(url)
        store.exists("warm")  # opens the connection, so that the requests that count meet
        start.wait(30.0)
        return act(store, number)

    with ThreadPoolExecutor(CREATORS) as pool:
        return list(pool.map(run, range(CREATORS)))


def test_one_of_many_threads_creates(url: str) -> None:
    def create(store: Store, number: int) -> list[bool]:
        return [store.create(f"claims/{n}", b"%d" % number) for n in range(5)]

    store = Store(url)
    for n, wrote in enumerate(zip(*race(url, create), strict=True)):
        assert wrote.count(True) == 1
        assert store.read(f"claims/{n}") == b"%d" % wrote.index(True)


RACER = """
import sys
from shared.store import Store
store, name = Store(sys.argv[1]), sys.argv[2]
store.exists("warm")
print("ready", flush=True)
sys.stdin.readline()
print(*(int(store.create(f"claims/{n}", name.encode())) for n in range(20)), flush=True)
"""


def test_one_of_many_processes_creates(url: str) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, url, str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for n in range(3)
    ]
    try:
        for racer in racers:
            assert racer.stdout is not None and racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("\n")
            racer.stdin.flush()
        wrote = [[int(word) for word in racer.communicate(timeout=60)[0].split()] for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()
    store = Store(url)
    for n, won in enumerate(zip(*wrote, strict=True)):
        assert sum(won) == 1
        assert store.read(f"claims/{n}") == str(won.index(1)).encode()


def test_workers_that_finish_one_shard_together_publish_one_and_all_report_it(url: str) -> None:
    """Their rows differ, as those of a worker that lost its lease may."""

    def publish(store: Store, number: int) -> ShardResult:
        rows = [
            Row("j", 0, index, 0, f"/i/{index}.png", "0" * 64, "chart", Split.TRAIN, Verdict.DISPARITY, question="q")
            for index in range(number + 1)
        ]
        return write_shard(store, "j", 0, rows)

    results = race(url, publish)
    store = Store(url)
    assert len({result.images for result in results}) == 1
    assert results[0].images == read_shard(store, "j", 0).num_rows
    assert shard_numbers(store, "j") == [0]


def test_promotions_at_the_same_moment_all_happen_one_after_another(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "x"}))
    registry = CheckpointRegistry(Store(url), "student")
    for version in ("base", *(f"v{n}" for n in range(CREATORS))):
        registry.publish(folder, build_card(folder, version=version, student="student", files=[folder / "config.json"]))
    registry.set_active("base", "test")

    pointers = race(url, lambda store, n: CheckpointRegistry(store, "student").set_active(f"v{n}", f"job {n}"))
    assert sorted(pointer.generation for pointer in pointers) == list(range(1, CREATORS + 1))
    in_order = ["base", *(p.version for p in sorted(pointers, key=lambda pointer: pointer.generation))]
    assert all(pointer.previous == in_order[pointer.generation - 1] for pointer in pointers)
    assert CheckpointRegistry(Store(url), "student").active().version == in_order[-1]
    # The copy for readers may name any of them, because the slowest wrote it last. All can be rolled back.
    assert [registry.rollback("test").version for _ in range(CREATORS)] == in_order[-2::-1]


def test_of_a_promotion_and_an_abort_of_a_canary_one_happens(url: str) -> None:
    canary = CanaryRegistry(Store(url), "student").start(CanaryRequest(version="v1", share=0.1, by="test"), "base")

    def end(store: Store, number: int) -> CanaryState | None:
        to = CanaryState.PROMOTED if number % 2 else CanaryState.ABORTED
        try:
            return CanaryRegistry(store, "student").move(canary.id, to, f"replica {number}", "race").state
        except Conflict:
            return None

    ended = race(url, end)
    latest = CanaryRegistry(Store(url), "student").latest()
    assert latest is not None and latest.revision == canary.revision + 1
    assert set(ended) == {latest.state, None}
