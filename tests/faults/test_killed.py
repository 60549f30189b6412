"""kill -9 in the middle of a real job: the same disparity set, and a training that resumes."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from demo.driver.system import System
from shared.client import ParityClient
from shared.contracts import JobState, JobStatus, Outcome, Pair
from tests.e2e.jobs import IMAGES, QUIET, all_pairs, finish, small_job
from tests.processes import find_descendant

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(900)]


def without_ids(pairs: list[Pair]) -> set[tuple[object, ...]]:
    """What a pair says, without what differs between two jobs by name only."""
    return {(p.image, p.task, p.verdict, p.question, p.teacher_answer, p.student_answer, p.split) for p in pairs}


async def until(client: ParityClient, job: JobStatus, reached: object) -> JobStatus:
    async with asyncio.timeout(240):
        while not reached(job):  # type: ignore[operator]
            assert not job.state.is_final, f"ended {job.state} too early: {job.last_error}"
            job = await client.job(job.id, wait=1, version=job.version)
    return job


async def test_a_killed_worker_changes_nothing_in_the_set(system: System, pile: Path, calm: JobStatus) -> None:
    async with ParityClient(system.endpoints["parity"]) as client:
        job = await client.submit(small_job(pile, gate=QUIET, name="disturbed"))
        job = await until(client, job, lambda j: j.shards.done >= 1 or j.images.done >= 4)
        assert job.state is JobState.COLLECTING, "too late to disturb it"
        os.kill(find_descendant(system.process.pid, "services.parity.worker"), signal.SIGKILL)
        job = await finish(client, job)
        assert job.shards.done == job.shards.total
        assert without_ids(await all_pairs(client, job.id)) == without_ids(await all_pairs(client, calm.id))


async def test_a_killed_training_resumes(system: System, data_dir: Path, pile: Path) -> None:
    """The progress lines of the first steps, with their speed, are still those that the killed process wrote."""
    train = {"max_steps": 60, "batch_size": 16, "learning_rate": 5e-4, "save_every_steps": 10}
    async with ParityClient(system.endpoints["parity"]) as client:
        job = await client.submit(small_job(pile, gate=QUIET, train=train, name="killed training"))
        job = await until(client, job, lambda j: j.state is JobState.TRAINING and j.training and j.training.step >= 20)
        progress = data_dir / "store" / "training" / job.id / "progress.jsonl"
        before = progress.read_text().splitlines()[:10]
        os.kill(find_descendant(system.process.pid, "services.trainer.run"), signal.SIGKILL)
        job = await finish(client, job)
    steps = progress.read_text().splitlines()
    assert (len(before), len(steps)) == (10, 60)
    assert steps[:10] == before
    assert job.outcome is Outcome.KEPT
    assert job.checkpoint == f"job-{job.id}"


async def test_a_killed_teacher_only_delays_the_job(system: System, pile: Path) -> None:
    async with ParityClient(system.endpoints["parity"]) as client:
        job = await client.submit(small_job(pile, gate=QUIET, name="killed teacher"))
        job = await until(client, job, lambda j: j.images.done >= 2)
        assert job.state is JobState.COLLECTING, "too late to disturb it"
        os.kill(find_descendant(system.process.pid, "vllm.entrypoints"), signal.SIGKILL)
        job = await finish(client, job)
    assert job.shards.done == job.shards.total
    assert job.pairs == IMAGES * 2


async def test_a_killed_redis_changes_nothing_in_the_set(system: System, pile: Path, calm: JobStatus) -> None:
    async with ParityClient(system.endpoints["parity"]) as client:
        job = await client.submit(small_job(pile, gate=QUIET, name="killed Redis"))
        job = await until(client, job, lambda j: j.shards.done >= 1 or j.images.done >= 4)
        assert job.state is JobState.COLLECTING, "too late to disturb it"
        os.kill(find_descendant(system.process.pid, "-server 127.0.0.1:"), signal.SIGKILL)
        job = await finish(client, job)
        assert job.shards.done == job.shards.total
        assert without_ids(await all_pairs(client, job.id)) == without_ids(await all_pairs(client, calm.id))
