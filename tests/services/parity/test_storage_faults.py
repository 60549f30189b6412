"""A job outlasts a store in trouble: it waits, says for what, and ends with the same set. Requests say: retry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from services.parity.worker.__main__ import image_files
from services.parity.worker.job_inputs import JobInputs
from services.parity.worker.shard import ShardWork
from shared.backoff import Backoff
from shared.client import ParityClient
from shared.contracts import JobStatus
from shared.sets import set_digest
from shared.settings import ParitySettings
from shared.state import JobStore
from shared.store import Store, waiting
from tests.polling import async_wait_until
from tests.services.parity.collecting import Spec, Submit, collect
from tests.small_disk import Disk

Trouble = Callable[[Disk], AbstractContextManager[None]]


@contextmanager
def full(disk: Disk) -> Iterator[None]:
    disk.fill()
    try:
        yield
    finally:
        disk.free()


def read_only(disk: Disk) -> AbstractContextManager[None]:
    return disk.read_only()


def unmounted(disk: Disk) -> AbstractContextManager[None]:
    return disk.unmounted()


@pytest.fixture
def tmp_store_url(small_disk: Disk) -> str:
    return small_disk.folder.as_uri()


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "STORAGE_RETRIES", Backoff(0.05, 0.2))


@pytest.mark.parametrize(
    ("trouble", "words"),
    [(full, "is full: free some space"), (read_only, "is read-only: mount it"), (unmounted, "is away")],
)
async def test_a_job_waits_for_the_store_and_ends_with_the_same_set(
    work: ShardWork,
    submit: Submit,
    spec: Spec,
    store: Store,
    jobs: JobStore,
    small_disk: Disk,
    trouble: Trouble,
    words: str,
) -> None:
    calm, job_id = await submit(spec()), await submit(spec())
    await collect(work, calm)
    with trouble(small_disk):
        running = asyncio.create_task(collect(work, job_id))
        status = await waits_for(jobs, job_id, "the artifact store file://")
        assert words in (status.waiting_for or "")
        assert not running.done()
    async with asyncio.timeout(30):
        await running
    snapshot = await jobs.snapshot(job_id)
    assert {shard.attempts for shard in snapshot.shards.values()} == {1}
    assert (await jobs.get(job_id)).last_error is None
    assert set_digest(store, job_id) == set_digest(store, calm)
    assert temporaries(store) == []


async def test_a_worker_that_starts_while_the_store_is_away_fails_no_job(
    settings: ParitySettings, work: ShardWork, submit: Submit, spec: Spec, jobs: JobStore, small_disk: Disk
) -> None:
    job_id = await submit(spec())
    with small_disk.unmounted():
        store = Store(settings.store_url)
        fresh = replace(work, store=store, inputs=JobInputs(store), files=image_files(settings, store))
        running = asyncio.create_task(fresh.run(job_id, 0))
        status = await waits_for(jobs, job_id, "the artifact store file://")
        assert "holds no job at all" in (status.waiting_for or "")
    async with asyncio.timeout(30):
        await running
    assert (await jobs.get(job_id)).shards.done == 1


async def test_an_image_folder_that_is_away_says_nothing_about_its_images(
    settings: ParitySettings, work: ShardWork, submit: Submit, spec: Spec, store: Store, jobs: JobStore, pile: Path
) -> None:
    calm, job_id = await submit(spec()), await submit(spec())
    await collect(work, calm)
    only_there = replace(work, files=image_files(settings.model_copy(update={"image_roots": [pile]}), store))
    pile.rename(pile.with_suffix(".away"))
    pile.mkdir()
    running = asyncio.create_task(collect(only_there, job_id))
    status = await waits_for(jobs, job_id, f"the image folder {pile}")
    assert "mount it" in (status.waiting_for or "")
    pile.rmdir()
    pile.with_suffix(".away").rename(pile)
    async with asyncio.timeout(30):
        await running
    assert set_digest(store, job_id) == set_digest(store, calm)


@pytest.mark.parametrize(("trouble", "words"), [(full, "is full"), (read_only, "is read-only"), (unmounted, "is away")])
async def test_a_submit_is_told_to_retry_and_leaves_nothing(
    api: ParityClient, spec: Spec, store: Store, small_disk: Disk, trouble: Trouble, words: str
) -> None:
    before = await api.submit(spec())
    kept = sorted(entry.key for entry in store.entries(""))
    async with httpx.AsyncClient(base_url=api.base_url) as http:
        with trouble(small_disk):
            refused = await http.post("/v1/jobs", json=spec())
            uploaded = await http.post("/v1/uploads", files={"files": ("a.png", bytes(200_000), "image/png")})
        for answer in (refused, uploaded):
            assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
            assert int(answer.headers["Retry-After"]) > 0
            assert words in answer.json()["detail"]
        assert sorted(entry.key for entry in store.entries("")) == kept
        assert store.list_dirs("jobs") == [before.id]
        assert [job["id"] for job in (await http.get("/v1/jobs")).json()["jobs"]] == [before.id]
        assert (await http.post("/v1/jobs", json=spec())).status_code == 202


async def test_a_key_whose_first_try_met_a_full_disk_still_makes_one_job(
    api: ParityClient, spec: Spec, store: Store, small_disk: Disk
) -> None:
    small_disk.fill(left=12_000)  # enough for the reservation of the key, not for the job
    async with httpx.AsyncClient(base_url=api.base_url, headers={"Idempotency-Key": "k"}) as http:
        assert (await http.post("/v1/jobs", json=spec())).status_code == 503
        small_disk.free()
        ids = {(await http.post("/v1/jobs", json=spec())).json()["id"] for _ in range(2)}
    assert store.list_dirs("jobs") == sorted(ids)
    assert temporaries(store) == []


async def waits_for(jobs: JobStore, job_id: str, beginning: str) -> JobStatus:
    async def look() -> JobStatus | None:
        status = await jobs.get(job_id)
        return status if (status.waiting_for or "").startswith(beginning) else None

    return await async_wait_until(look)


def temporaries(store: Store) -> list[str]:
    return [entry.key for entry in store.entries("") if "/.tmp-" in f"/{entry.key}"]
