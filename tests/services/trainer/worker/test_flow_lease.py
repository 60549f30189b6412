"""One worker holds a training; it may be stopped, cancelled or crash."""

from __future__ import annotations

import asyncio

import pytest

from shared.checkpoints import CheckpointRegistry
from shared.contracts import JobState, Outcome
from shared.store import Store
from tests.polling import async_wait_until
from tests.services.trainer.played_job import PlayedJob
from tests.services.trainer.scripted_student import ScriptedStudent
from tests.services.trainer.small_set import TRAIN, job_spec


async def test_a_cancelled_job_stops_the_training(
    job: PlayedJob, small_set: Store, registry: CheckpointRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = asyncio.Event()

    async def endless(*_: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    monkeypatch.setattr("services.trainer.worker.candidate.run_phase", endless)
    await job.submit(job_spec(TRAIN))
    work = asyncio.create_task(job.run())

    async def held() -> bool:
        return (await job.jobs.snapshot("j1")).training.owner == "w1"

    await async_wait_until(held)
    await job.jobs.cancel("j1")
    status = await asyncio.wait_for(work, 20)
    assert stopped.is_set()
    assert status.state is JobState.CANCELLED


async def test_stopping_the_worker_gives_the_training_back_uncounted(
    job: PlayedJob, small_set: Store, registry: CheckpointRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = asyncio.Event()

    async def endless(*_: object) -> None:
        started.set()
        await asyncio.Event().wait()

    monkeypatch.setattr("services.trainer.worker.candidate.run_phase", endless)
    await job.submit(job_spec(TRAIN))
    work = asyncio.create_task(job.run())
    await asyncio.wait_for(started.wait(), 20)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    snapshot = await job.jobs.snapshot("j1")
    assert snapshot.state is JobState.TRAINING
    assert snapshot.training.attempts == 0
    assert snapshot.training.is_free(snapshot.now)


async def test_only_one_of_two_workers_trains(
    job: PlayedJob, small_set: Store, registry: CheckpointRegistry, student: ScriptedStudent
) -> None:
    job.measured(0.25, 0.75)
    await job.submit(job_spec(TRAIN))
    await asyncio.gather(job.run("w1"), job.run("w2"))
    assert (await job.status()).outcome is Outcome.PROMOTED
    assert len(student.asked) == 1


async def test_crashes_are_tried_again_until_the_attempts_are_used_up(
    job: PlayedJob, small_set: Store, registry: CheckpointRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(*_: object) -> None:
        raise OSError("disk on fire")

    monkeypatch.setattr("services.trainer.worker.candidate.run_phase", crash)
    await job.submit(job_spec(TRAIN))
    states = [(await job.run()).state for _ in range(job.settings.train_attempts)]
    assert states == [JobState.TRAINING, JobState.TRAINING, JobState.FAILED]
    assert "disk on fire" in ((await job.status()).last_error or "")
