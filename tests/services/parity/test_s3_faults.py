"""A job in a bucket outlasts an S3 server that throttles, fails, or is away, and ends with the same set."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from services.parity.worker.shard import ShardWork
from shared.backoff import Backoff
from shared.sets import set_digest
from shared.state import JobStore
from shared.store import Store, remote, waiting
from tests.services.parity.collecting import Spec, Submit, collect
from tests.services.parity.test_storage_faults import waits_for
from tests.shared.object_store import ENVIRONMENT, ObjectServer, make_bucket, object_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    with object_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def tmp_store_url(server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in (ENVIRONMENT | {"AWS_ENDPOINT_URL": server.url}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(remote, "HTTP_ATTEMPTS", 1)
    monkeypatch.setattr(waiting, "STORAGE_RETRIES", Backoff(0.05, 0.2))
    return f"{make_bucket()}/mpa"


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (403, "AccessDenied")])
async def test_a_job_waits_for_s3_and_ends_with_the_same_set(
    work: ShardWork,
    submit: Submit,
    spec: Spec,
    store: Store,
    jobs: JobStore,
    server: ObjectServer,
    status: int,
    code: str,
) -> None:
    calm, job_id = await submit(spec()), await submit(spec())
    await collect(work, calm)
    server.spoil("PUT", status, code, times=10_000)
    running = asyncio.create_task(collect(work, job_id))
    await waits_for(jobs, job_id, "the artifact store s3://")
    server.spoil_nothing()
    async with asyncio.timeout(60):
        await running
    assert {shard.attempts for shard in (await jobs.snapshot(job_id)).shards.values()} == {1}
    assert set_digest(store, job_id) == set_digest(store, calm)
