"""Shards of one job never wait for the manifest of another."""

from __future__ import annotations

import asyncio
import threading

import pytest

from services.parity.jobs.submission import manifest_key
from services.parity.worker.job_inputs import KEPT_JOBS, JobInputs
from shared.store import Store
from tests.services.parity.collecting import Spec, Submit


class SlowStore(Store):
    """Holds back the reads of one key until it is let go, and counts all reads."""

    held: str = ""
    reads: list[str]
    waiting: threading.Event
    go: threading.Event

    def read(self, key: str, at_most: int | None = None) -> bytes:
        self.reads.append(key)
        if key == self.held:
            self.waiting.set()
            assert self.go.wait(30)
        return super().read(key, at_most)


@pytest.fixture
def slow_store(store: Store) -> SlowStore:
    slow = SlowStore(store.url)
    slow.reads, slow.waiting, slow.go = [], threading.Event(), threading.Event()
    return slow


async def test_a_slow_manifest_holds_up_no_other_job(slow_store: SlowStore, submit: Submit, spec: Spec) -> None:
    slow, quick = await submit(spec()), await submit(spec())
    slow_store.held = manifest_key(slow)
    inputs = JobInputs(slow_store)
    first = asyncio.create_task(asyncio.to_thread(inputs.get, slow))
    second = asyncio.create_task(asyncio.to_thread(inputs.get, slow))
    assert await asyncio.to_thread(slow_store.waiting.wait, 10)
    try:
        async with asyncio.timeout(10):
            assert len((await asyncio.to_thread(inputs.get, quick)).lines) == 20
        assert not first.done() and not second.done()
    finally:
        slow_store.go.set()
    assert (await first) is (await second)
    assert slow_store.reads.count(manifest_key(slow)) == 1


async def test_only_the_jobs_used_last_are_kept(slow_store: SlowStore, submit: Submit, spec: Spec) -> None:
    jobs = [await submit(spec(seed=seed)) for seed in range(KEPT_JOBS + 1)]
    inputs = JobInputs(slow_store)
    for job_id in (*jobs[:KEPT_JOBS], jobs[0], jobs[KEPT_JOBS], jobs[0], jobs[1]):
        inputs.get(job_id)
    counts = [slow_store.reads.count(manifest_key(job_id)) for job_id in jobs]
    assert counts == [1, 2, *[1] * (KEPT_JOBS - 1)]
