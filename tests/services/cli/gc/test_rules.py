"""What may be deleted: the decision by itself, and the sweep of a real store while a job collects."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.gc.inventory import sweep, take_stock
from services.cli.gc.rules import GRACE_SECONDS, Inventory, JobFacts, RemovalKind, garbage
from shared.contracts import JobSpec, JobState, StoredSpec
from shared.errors import Unavailable
from shared.state import JobStore
from shared.store import Entry, Store
from tests.embedded_redis import start_embedded_redis

NOW = 1_800_000_000.0
DAY = 86400.0
JOBS = st.sampled_from(["a", "b", "c"])
NAMES = st.sampled_from(
    ["spec.json", "manifest.jsonl", "images/x.png", "set/shard-00000.parquet", "set/shard-00007.parquet", "report.json"]
)
KEYS = st.one_of(
    st.builds("jobs/{}/{}".format, JOBS, NAMES),
    st.builds("training/{}/start.json".format, JOBS),
    st.builds("checkpoints/s/{}/model.safetensors".format, JOBS),
    st.builds("checkpoints/s/.promotions/{}.json".format, JOBS),
    st.builds("traffic/s/{}/x.png".format, st.sampled_from(["20200101T00", "20990101T00", "odd"])),
    st.sampled_from(["active.json", "uploads/u/x.png", "jobs/a/.tmp-1", "unknown/x", "checkpoints/s/active.json"]),
)
FACTS = st.builds(
    JobFacts,
    st.sampled_from(list(JobState)),
    st.one_of(st.none(), st.floats(NOW - 30 * DAY, NOW)),
    st.integers(1, 4),
)
INVENTORIES = st.builds(
    lambda ages, jobs, specs, versions, referenced: Inventory(
        NOW,
        tuple(Entry(key, 10, NOW - age) for key, age in ages.items()),
        jobs,
        specs | frozenset(jobs),
        frozenset(("s", v) for v in versions),
        referenced,
    ),
    st.dictionaries(KEYS, st.floats(0, 30 * DAY), max_size=25),
    st.dictionaries(JOBS, FACTS),
    st.frozensets(JOBS),
    st.frozensets(JOBS),
    st.frozensets(KEYS, max_size=3),
)


@given(INVENTORIES, st.floats(0, 20 * DAY))
def test_what_is_needed_is_never_garbage(inventory: Inventory, older_than: float) -> None:
    removals = garbage(inventory, older_than)
    gone = [key for removal in removals for key in removal.keys]
    written = {entry.key: entry.modified for entry in inventory.entries}
    assert len(gone) == len(set(gone))
    assert sum(removal.bytes for removal in removals) == 10 * len(gone)
    for key in gone:
        assert written[key] <= NOW - max(GRACE_SECONDS, older_than)
        assert key not in inventory.referenced
        first, *rest = key.split("/")
        assert first in ("jobs", "training", "checkpoints", "traffic")
        if key.endswith(".tmp-1"):
            continue
        if first in ("jobs", "training"):
            job = inventory.jobs.get(rest[0])
            assert job is None or job.state.is_final
            assert job is not None or rest[0] not in inventory.specs
        if first == "jobs" and inventory.jobs.get(rest[0]):
            assert rest[1] == "images" or rest[-1] == "shard-00007.parquet"
        if first == "checkpoints":
            assert (rest[0], rest[1]) not in inventory.versions
            assert not rest[1].startswith(".")


def test_each_kind_is_found_with_its_reason() -> None:
    old = NOW - 20 * DAY
    keys = [
        "training/done/start.json",
        "training/runs/start.json",
        "checkpoints/s/half/model.safetensors",
        "checkpoints/s/v1/model.safetensors",
        "jobs/done/images/x.png",
        "jobs/done/set/shard-00001.parquet",
        "jobs/done/set/shard-00002.parquet",
        "jobs/gone/set/shard-00000.parquet",
        "jobs/lost/set/shard-00000.parquet",
        "jobs/failed/images/x.png",
        "traffic/s/20200101T00/x.png",
        "jobs/runs/.tmp-0123",
    ]
    jobs = {
        "done": JobFacts(JobState.SUCCEEDED, old, 2),
        "runs": JobFacts(JobState.COLLECTING, None, 2),
        "failed": JobFacts(JobState.FAILED, old, 2),
    }
    specs = frozenset({*jobs, "lost"})
    inventory = Inventory(NOW, tuple(Entry(k, 1, old) for k in keys), jobs, specs, frozenset({("s", "v1")}))
    assert {(r.prefix, r.kind) for r in garbage(inventory, 7 * DAY)} == {
        ("training/done", RemovalKind.TRAINING),
        ("checkpoints/s/half", RemovalKind.CHECKPOINT),
        ("jobs/done/images", RemovalKind.PINNED),
        ("jobs/done/set/shard-00002.parquet", RemovalKind.SHARD),
        ("jobs/gone", RemovalKind.JOB),
        ("traffic/s/20200101T00", RemovalKind.TRAFFIC),
        ("jobs/runs/.tmp-0123", RemovalKind.TEMPORARY),
    }
    assert (
        garbage(inventory, 21 * DAY) == [r for r in garbage(inventory, 21 * DAY) if r.kind is RemovalKind.TRAFFIC] == []
    )


def stored(job_id: str) -> StoredSpec:
    spec = JobSpec.model_validate({"images": {"kind": "folder", "path": "/x"}, "tasks": ["chart"], "shard_size": 1})
    return StoredSpec(job_id=job_id, created_at=datetime.now(UTC), spec=spec, images=2, shards=2)


def later() -> float:
    return time.time() + 30 * DAY


async def test_a_sweep_beside_a_collecting_job_takes_only_what_nobody_needs(tmp_store_url: str, redis_url: str) -> None:
    store, jobs = Store(tmp_store_url), JobStore.from_url(redis_url)
    for job_id in ("runs", "over"):
        store.write(f"jobs/{job_id}/spec.json", stored(job_id).model_dump_json().encode())
        store.write(f"training/{job_id}/start.json", b"{}")
        await jobs.create(stored(job_id))
    store.write("jobs/other/images/x.png", b"1")
    line = f'{{"index": 0, "image": "{store.url}/jobs/other/images/x.png", "tasks": ["chart"]}}'
    store.write("jobs/runs/manifest.jsonl", line.encode())
    store.write("jobs/gone/set/shard-00000.parquet", b"12")
    lease = await jobs.shards.acquire("runs", 0, "w", 60.0, 3)
    assert lease is not None
    assert await jobs.transition("over", JobState.QUEUED, JobState.CANCELLED)
    assert garbage(await take_stock(store, jobs), 0.0) == []

    async def collect() -> None:
        for number in range(20):
            await asyncio.to_thread(store.write, f"jobs/runs/set/shard-{number:05d}.parquet", b"rows")
            await jobs.shards.heartbeat(lease, 60.0)

    found = garbage(await take_stock(store, jobs, later), 7 * DAY)
    assert [removal.prefix for removal in found] == ["jobs/gone", "training/over"]
    collecting = asyncio.create_task(collect())
    gone = [removal.prefix async for removal in sweep(store, jobs, found, 7 * DAY, later)]
    await collecting
    assert gone == ["jobs/gone", "training/over"]
    assert store.list("jobs/gone") == store.list("training/over") == []
    assert len(store.list("jobs/runs/set")) == 20
    assert store.exists("training/runs/start.json")
    assert store.read("jobs/other/images/x.png") == b"1"
    await jobs.aclose()


async def test_a_job_tried_again_meanwhile_keeps_its_training(tmp_store_url: str, redis_url: str) -> None:
    store, jobs = Store(tmp_store_url), JobStore.from_url(redis_url)
    await jobs.create(stored("j"))
    store.write("training/j/start.json", b"{}")
    assert await jobs.transition("j", JobState.QUEUED, JobState.CANCELLED)
    found = garbage(await take_stock(store, jobs, later), DAY)
    assert [removal.prefix for removal in found] == ["training/j"]
    assert await jobs.transition("j", JobState.CANCELLED, JobState.QUEUED)
    assert [removal async for removal in sweep(store, jobs, found, DAY, later)] == []
    assert store.exists("training/j/start.json")
    await jobs.aclose()


async def test_without_redis_nothing_is_guessed(tmp_store_url: str, free_port: int) -> None:
    jobs = JobStore.from_url(f"redis://127.0.0.1:{free_port}/0")
    with pytest.raises(Unavailable, match="Redis cannot be asked"):
        await take_stock(Store(tmp_store_url), jobs)
    await jobs.aclose()


async def test_redis_that_dies_before_the_sweep_saves_what_it_was_about_to_delete(
    tmp_store_url: str, tmp_path: Path
) -> None:
    server = start_embedded_redis(tmp_path / "redis")
    store, jobs = Store(tmp_store_url), JobStore.from_url(server.url)
    store.write("jobs/gone/set/shard-00000.parquet", b"12")
    found = garbage(await take_stock(store, jobs, later), DAY)
    assert [removal.prefix for removal in found] == ["jobs/gone"]
    server.stop()
    with pytest.raises(Unavailable, match="Redis cannot be asked"):
        _ = [removal async for removal in sweep(store, jobs, found, DAY, later)]
    assert store.exists("jobs/gone/set/shard-00000.parquet")
    await jobs.aclose()


def test_a_pinned_copy_is_young_though_its_source_is_old(tmp_path: Path) -> None:
    store = Store(tmp_path.as_uri())
    store.write("traffic/s/20200101T00/x.png", b"1")
    began = time.time()
    store.copy("traffic/s/20200101T00/x.png", "jobs/j/images/x.png")
    (entry,) = store.entries("jobs")
    assert entry.modified >= began - 1
