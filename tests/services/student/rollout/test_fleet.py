"""Two replicas in processes of their own, on one store and a real Redis that also dies."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
import torch

from shared.checkpoints import CheckpointRegistry
from shared.client import StudentClient
from shared.contracts import CanaryState, RolloutView
from shared.errors import MPAError
from shared.processes.ports import free_port
from shared.store import Store
from tests.embedded_redis import EmbeddedRedis, start_embedded_redis
from tests.lifetime import die_with_parent
from tests.polling import async_wait_until
from tests.services.student.small_replica import answer_of, canary, publish
from tests.tiny_models import build_tiny_idefics3

pytestmark = pytest.mark.slow
CONVERGED_WITHIN = 10.0
"""Seconds that a replica which misses the push may take."""


@dataclass
class Fleet:
    """Two replicas' processes and ports, and what they share."""

    folder: Path
    redis: EmbeddedRedis
    registry: CheckpointRegistry
    ports: list[int]
    processes: list[subprocess.Popen[bytes]]

    def start(self, number: int) -> None:
        environment = {
            **os.environ,
            "MPA_DATA_DIR": str(self.folder / f"replica-{number}"),
            "MPA_STORE": (self.folder / "store").as_uri(),
            "MPA_REDIS_URL": self.redis.url,
            "MPA_STUDENT_MODEL": str(self.folder / "base"),
            "MPA_STUDENT_PORT": str(self.ports[number]),
            "MPA_STUDENT_REPLICA_TIMEOUT": "4",
        }
        command = [sys.executable, "-m", "services.student"]
        self.processes[number:] = [
            subprocess.Popen(command, env=environment, preexec_fn=die_with_parent()),
            *self.processes[number + 1 :],
        ]

    def stop(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.redis.stop()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("fleet")
    base = build_tiny_idefics3(folder / "base", seed=0)
    registry = CheckpointRegistry(Store((folder / "store").as_uri()), "student")
    registry.register_base(base)
    for version, seed in (("job-a", 1), ("job-b", 2)):
        publish(registry, build_tiny_idefics3(folder / version, seed=seed), version)
    fleet = Fleet(folder, start_embedded_redis(folder / "redis"), registry, [free_port(), free_port()], [])
    try:
        fleet.start(0)
        fleet.start(1)
        yield fleet
    finally:
        fleet.stop()


@pytest_asyncio.fixture
async def replicas(fleet: Fleet) -> AsyncIterator[tuple[StudentClient, StudentClient]]:
    """Clients of both replicas, which serve the base and know each other."""
    async with client_of(fleet, 0) as first, client_of(fleet, 1) as second:
        await async_wait_until(lambda: both_listed(first), timeout=120)
        await first.activate("base", by="test")
        await async_wait_until(lambda: converged(first), timeout=30)
        yield first, second


@asynccontextmanager
async def client_of(fleet: Fleet, number: int) -> AsyncIterator[StudentClient]:
    async with StudentClient(f"http://127.0.0.1:{fleet.ports[number]}", model="student") as client:
        yield client


async def view_of(client: StudentClient) -> RolloutView | None:
    try:
        return await client.rollout()
    except MPAError:
        return None


async def both_listed(client: StudentClient) -> bool:
    view = await view_of(client)
    return view is not None and len(view.replicas) == 2


async def converged(client: StudentClient) -> bool:
    view = await view_of(client)
    return view is not None and view.converged


async def test_a_promotion_is_pushed_to_all_replicas(replicas: tuple[StudentClient, StudentClient]) -> None:
    first, second = replicas
    await first.activate("job-a", by="test")
    assert (await first.rollout()).active.version == "job-a"
    await async_wait_until(lambda: converged(second))
    view = await second.rollout()
    assert [r.version for r in view.replicas] == ["job-a", "job-a"]
    assert {r.generation for r in view.replicas} == {view.active.generation}
    assert view.complete
    assert (await answer_of(second))[0] == "job-a"
    await second.rollback()
    await async_wait_until(lambda: converged(first))
    assert (await answer_of(first))[0] == "base"


async def test_a_canary_is_served_counted_and_promoted_over_all_replicas(
    replicas: tuple[StudentClient, StudentClient],
) -> None:
    first, second = replicas
    await first.start_canary(canary("job-a", share=0.5))
    await async_wait_until(lambda: converged(second))
    assert [r.candidate for r in (await second.rollout()).replicas] == ["job-a", "job-a"]
    answers = [[await answer_of(client, seed) for seed in range(20)] for client in (first, second)]
    assert answers[0] == answers[1], "the same request goes to the same version on every replica"
    counted = Counter(version for one in answers for version, _ in one)

    async def all_counted() -> bool:
        report = (await first.rollout()).canary
        assert report is not None
        return (report.candidate.requests, report.active.requests) == (counted["job-a"], counted["base"])

    await async_wait_until(all_counted)
    await second.promote_canary(by="test")
    await async_wait_until(lambda: converged(first))
    assert (await answer_of(first))[0] == (await answer_of(second))[0] == "job-a"
    report = (await first.rollout()).canary
    assert report is not None
    assert (report.canary.state, report.candidate.requests) == (CanaryState.PROMOTED, counted["job-a"])


async def test_a_rule_aborts_on_all_replicas(
    replicas: tuple[StudentClient, StudentClient],
) -> None:
    """Nobody asks anything, so the rule's time limit decides, on whichever replica sees it first."""
    first, second = replicas
    rule = {"min_requests": 1000, "max_seconds": 3.0}
    await first.start_canary(canary("job-b", share=1.0, rule=rule))

    async def aborted() -> bool:
        report = (await second.rollout()).canary
        return report is not None and report.canary.state is CanaryState.ABORTED

    await async_wait_until(aborted, timeout=20)
    await async_wait_until(lambda: converged(first))
    assert {(await answer_of(client))[0] for client in replicas} == {"base"}


async def test_the_rollout_goes_on_while_redis_is_dead(
    fleet: Fleet, replicas: tuple[StudentClient, StudentClient]
) -> None:
    first, second = replicas
    fleet.redis.process.kill()
    fleet.redis.process.wait()
    try:
        await first.activate("job-b", by="test")
        started = time.monotonic()
        while (await answer_of(second))[0] != "job-b":
            assert time.monotonic() - started < CONVERGED_WITHIN, "the missed push is made up for by the poll"
            await asyncio.sleep(0.1)
        view = await second.rollout()
        assert (view.complete, len(view.replicas), view.converged) == (False, 1, True)
    finally:
        fleet.redis = start_embedded_redis(fleet.folder / "redis", port=fleet.redis.port)
    await async_wait_until(lambda: both_listed(first), timeout=20)
    await first.activate("job-a", by="test")
    await async_wait_until(lambda: converged(second))


async def test_a_killed_replica_is_no_longer_listed_and_catches_up_when_it_is_back(
    fleet: Fleet, replicas: tuple[StudentClient, StudentClient]
) -> None:
    first, second = replicas
    fleet.processes[1].kill()
    fleet.processes[1].wait()

    async def alone() -> bool:
        return len((await first.rollout()).replicas) == 1

    await async_wait_until(alone, timeout=15)
    await first.activate("job-a", by="test")
    fleet.start(1)
    await async_wait_until(lambda: both_listed(first), timeout=120)
    await async_wait_until(lambda: converged(first), timeout=30)
    assert (await answer_of(second))[0] == "job-a"
