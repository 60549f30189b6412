"""A training outlasts a store or a disk in trouble: it waits, costs no attempt, and goes on by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from services.trainer.worker import flow
from shared.backoff import Backoff
from shared.checkpoints import CheckpointRegistry
from shared.contracts import JobState, JobStatus, Outcome
from shared.store import Store, waiting
from tests.polling import async_wait_until
from tests.services.trainer.played_job import PlayedJob
from tests.services.trainer.scripted_student import ScriptedStudent
from tests.services.trainer.small_set import TRAIN, job_spec
from tests.small_disk import MIB, Disk, mounted_disk

Trouble = Callable[[Disk], AbstractContextManager[None]]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with mounted_disk(tmp_path / "disk", 64 * MIB) as mounted:
        yield mounted


@pytest.fixture
def store(disk: Disk) -> Store:
    return Store(disk.folder.as_uri())


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (flow, waiting):
        monkeypatch.setattr(module, "STORAGE_RETRIES", Backoff(0.05, 0.5))


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


@pytest.mark.parametrize(("trouble", "words"), [(full, "is full"), (read_only, "is read-only"), (unmounted, "is away")])
async def test_a_candidate_is_published_when_the_store_is_well_again(
    job: PlayedJob,
    small_set: Store,
    registry: CheckpointRegistry,
    student: ScriptedStudent,
    disk: Disk,
    trouble: Trouble,
    words: str,
) -> None:
    job.measured(0.25, 0.75)
    await job.submit(job_spec(TRAIN))
    with trouble(disk):
        running = asyncio.create_task(job.run())
        status = await waits(job)
        assert words in (status.waiting_for or "")
        assert student.asked == []
    async with asyncio.timeout(60):
        status = await running
    assert (status.state, status.outcome) == (JobState.SUCCEEDED, Outcome.PROMOTED), status.last_error
    assert (await job.jobs.snapshot("j1")).training.attempts == 1
    assert registry.active().version == "job-j1"
    assert [key for key in (entry.key for entry in small_set.entries("")) if ".tmp-" in key] == []


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_training_whose_saved_step_does_not_fit_goes_on_when_it_does(
    job: PlayedJob, small_set: Store, registry: CheckpointRegistry, student: ScriptedStudent, disk: Disk
) -> None:
    """The disk has room for small files, but not for a checkpoint: the training process itself meets the full disk."""
    await job.submit(job_spec(TRAIN))
    disk.fill(left=200_000)
    running = asyncio.create_task(job.run())
    status = await waits(job, 120.0)
    assert "No space left on device" in (status.waiting_for or "")
    assert status.state is JobState.TRAINING
    disk.free()
    async with asyncio.timeout(200):
        status = await running
    assert status.state is JobState.SUCCEEDED, status.last_error
    assert (await job.jobs.snapshot("j1")).training.attempts == 1
    assert "job-j1" in registry.versions()


async def waits(job: PlayedJob, timeout: float = 20.0) -> JobStatus:
    async def look() -> JobStatus | None:
        status = await job.status()
        return status if status.waiting_for and "trainer" not in status.waiting_for else None

    found = await async_wait_until(look, timeout)
    assert found is not None
    return found
