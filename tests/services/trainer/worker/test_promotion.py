"""A checkpoint is passed to the student, which may refuse it, be away, or have none yet."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from shared.backoff import Backoff
from shared.checkpoints import CheckpointRegistry
from shared.contracts import JobState, Outcome
from shared.store import Store
from tests.polling import async_wait_until
from tests.services.trainer.played_job import PlayedJob
from tests.services.trainer.scripted_student import ScriptedStudent
from tests.services.trainer.small_set import TRAIN, job_spec


async def test_a_refused_checkpoint_fails_the_job_and_the_old_one_serves(
    job: PlayedJob, small_set: Store, registry: CheckpointRegistry, student: ScriptedStudent
) -> None:
    job.measured(0.25, 0.75)
    student.answers = [(422, "tensor 'x' has another shape")]
    await job.submit(job_spec(TRAIN))
    status = await job.run()
    assert status.state is JobState.FAILED
    assert "tensor 'x' has another shape" in (status.last_error or "")
    assert registry.active().version == "base"


@pytest.mark.slow
async def test_a_student_that_is_down_is_waited_for(
    job: PlayedJob,
    small_set: Store,
    registry: CheckpointRegistry,
    student: ScriptedStudent,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.trainer.worker.promotion.BACKOFF", Backoff(0.5, 30.0))
    job.measured(0.25, 0.75)
    student.answers = [(503, "the student is loading")] * 4
    await job.submit(job_spec(TRAIN))
    work = asyncio.create_task(job.run())

    async def says_so() -> bool:
        waiting = (await job.status()).waiting_for or ""
        return "student" in waiting and "loading" in waiting

    await async_wait_until(says_so, timeout=20)
    status = await asyncio.wait_for(work, 60)
    assert status.outcome is Outcome.PROMOTED
    assert status.waiting_for is None
    assert len(student.asked) == 5


async def test_a_student_without_any_checkpoint_is_waited_for(
    job: PlayedJob, small_set: Store, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.trainer.worker.flow.REGISTRY_PAUSE", 0.05)
    job.measured(0.25, 0.75)
    await job.submit(job_spec(TRAIN))
    work = asyncio.create_task(job.run())

    async def says_so() -> bool:
        return "no active checkpoint" in ((await job.status()).waiting_for or "")

    await async_wait_until(says_so)
    CheckpointRegistry(small_set, "student").register_base(tiny_student)
    status = await asyncio.wait_for(work, 60)
    assert status.outcome is Outcome.PROMOTED
