"""Jobs on a real Redis and store whose shards are written here, without models: quick enough to damage hundreds."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from services.parity.jobs.submission import manifest_key, spec_key
from shared.contracts import FolderSource, JobSpec, JobState, ManifestEntry, Split, StoredSpec, Verdict
from shared.errors import Damaged, NotFound
from shared.sets import Row, read_shard, set_shard_aside, write_shard
from shared.state import JobStore
from shared.store import Store

SHARDS = 3
OVER = (JobState.TRAINING, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)
"""Where a job is when its shards are done, or will never be."""


async def submit(jobs: JobStore, store: Store, job_id: str) -> StoredSpec:
    """Accept a job of SHARDS shards with two images each."""
    spec = JobSpec(images=[FolderSource(path="/pile")], tasks=["chart"], shard_size=2)
    stored = StoredSpec(job_id=job_id, created_at=datetime.now(UTC), spec=spec, images=2 * SHARDS, shards=SHARDS)
    entries = [
        ManifestEntry(index=number, image=f"/pile/{number}.png", tasks=["chart"]) for number in range(2 * SHARDS)
    ]
    lines = b"".join(entry.model_dump_json().encode() + b"\n" for entry in entries)
    await asyncio.to_thread(store.write, manifest_key(job_id), lines)
    await asyncio.to_thread(store.write, spec_key(job_id), stored.model_dump_json().encode())
    await jobs.create(stored)
    return stored


def rows(job_id: str, shard: int) -> list[Row]:
    return [
        Row(job_id, shard, 2 * shard + n, 0, f"/pile/{n}.png", None, "chart", Split.TRAIN, Verdict.DISPARITY)
        for n in range(2)
    ]


async def collect(jobs: JobStore, store: Store, job_id: str, shard: int) -> None:
    """What a worker does with a message, if it can read the job."""
    lease = await jobs.shards.acquire(job_id, shard, "w", 30, 3)
    if lease is None:
        return
    try:
        read_shard(store, job_id, shard)
    except NotFound:
        pass
    except Damaged:
        set_shard_aside(store, job_id, shard)
    await jobs.shards.complete(lease, write_shard(store, job_id, shard, rows(job_id, shard)))


async def collect_what_is_left(jobs: JobStore, store: Store, job_id: str) -> None:
    for shard in range(SHARDS):
        await collect(jobs, store, job_id, shard)
