"""A job store on a real Redis, with a clock that only tests move."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from shared.contracts import FolderSource, JobSpec, StoredSpec
from shared.state import JobStore, ShardResult

RESULT = ShardResult(images=4, verdicts={"disparity": 3, "student_right": 1}, prompt_tokens=40, train_disparity=2)


class Clock:
    """Seconds since the epoch, as told."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def jobs(redis_url: str, clock: Clock) -> AsyncIterator[JobStore]:
    store = JobStore.from_url(redis_url, clock=clock)
    yield store
    await store.aclose()


def stored(
    job_id: str = "job-1", images: int = 10, shard_size: int = 4, created: float = 1_800_000_000.0
) -> StoredSpec:
    spec = JobSpec(images=[FolderSource(path="/pile")], tasks=["chart"], shard_size=shard_size)
    when = datetime.fromtimestamp(created, UTC)
    return StoredSpec(job_id=job_id, created_at=when, spec=spec, images=images, shards=-(-images // shard_size))


async def collect_all(jobs: JobStore, job_id: str = "job-1", shards: int = 3) -> None:
    for shard in range(shards):
        lease = await jobs.shards.acquire(job_id, shard, "w", 30, 5)
        assert lease is not None
        await jobs.shards.complete(lease, RESULT)
