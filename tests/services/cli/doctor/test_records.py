"""`mpa doctor` names each job that cannot be read, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis

from services.cli.doctor.records import record_findings
from shared.contracts import FindingState, FolderSource, JobSpec, StoredSpec
from shared.state import JobStore
from shared.store import Store

SPEC = "jobs/bad/spec.json"
Damage = Callable[[redis.Redis, Store], object]


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as found:
        yield found


async def accept(jobs: JobStore, store: Store, job_id: str) -> None:
    spec = JobSpec(images=[FolderSource(path="/pile")], tasks=["chart"])
    stored = StoredSpec(job_id=job_id, created_at=datetime.now(UTC), spec=spec, images=2, shards=1)
    store.write(f"jobs/{job_id}/spec.json", stored.model_dump_json().encode())
    await jobs.create(stored)


@pytest.mark.parametrize(
    ("damage", "state", "words"),
    [
        (lambda client, store: store.write(SPEC, b"{"), FindingState.BROKEN, "spec.json is damaged"),
        (lambda client, store: store.delete(SPEC), FindingState.BROKEN, "spec.json is gone"),
        (lambda client, store: client.delete("mpa:job:bad"), FindingState.WARNING, "no good record"),
        (lambda client, store: client.set("mpa:job:bad", "x"), FindingState.WARNING, "is not a hash"),
        (lambda client, store: client.hset("mpa:job:bad", "info", "["), FindingState.WARNING, "damaged"),
        (
            lambda client, store: (client.delete("mpa:job:bad"), store.delete(SPEC)),
            FindingState.BROKEN,
            "neither Redis nor the artifact store",
        ),
    ],
)
async def test_a_job_that_cannot_be_read_is_named(
    jobs: JobStore, client: redis.Redis, redis_url: str, tmp_path: Path, damage: Damage, state: FindingState, words: str
) -> None:
    store = Store((tmp_path / "store").as_uri())
    for job_id in ("bad", "good"):
        await accept(jobs, store, job_id)
    damage(client, store)
    findings = await record_findings(redis_url, lambda: store, 5)
    assert [(finding.check, finding.state) for finding in findings] == [("job bad", state)]
    assert words in findings[0].found and findings[0].fix


async def test_healthy_jobs_are_counted(jobs: JobStore, redis_url: str, tmp_path: Path) -> None:
    store = Store((tmp_path / "store").as_uri())
    await accept(jobs, store, "good")
    store.write("jobs/never-accepted/manifest.jsonl", b"")
    findings = await record_findings(redis_url, lambda: store, 5)
    assert [(finding.state, finding.found) for finding in findings] == [(FindingState.OK, "2 can be read")]
