"""Real Celery workers in processes of their own, killed and stopped in the middle of a job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.client import ParityClient
from shared.contracts import JobState, JobStatus
from shared.sets import set_digest
from shared.settings import ParitySettings
from shared.state import JobStore
from shared.store import Store
from tests.polling import async_wait_until
from tests.quick_server import ServerThread
from tests.scripted_models import ScriptedModel
from tests.services.parity.collecting import train

Spec = Callable[..., dict[str, Any]]
Model = tuple[ScriptedModel, ServerThread]
Start = Callable[[], "subprocess.Popen[bytes]"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def start_worker(settings: ParitySettings, tmp_path: Path) -> Iterator[Start]:
    """Starts ``python -m services.parity.worker`` with the test's settings."""
    started: list[subprocess.Popen[bytes]] = []
    environment = {
        **os.environ,
        "MPA_DATA_DIR": str(settings.data_dir),
        "MPA_STORE": settings.store_url,
        "MPA_REDIS_URL": settings.redis_url,
        "MPA_TEACHER_URL": settings.teacher_url,
        "MPA_STUDENT_URL": settings.student_url,
        "MPA_TASKS_FILE": str(settings.tasks_file),
        "MPA_IMAGE_ROOTS": f'["{tmp_path}"]',
        "MPA_LEASE": "6",
        "MPA_WORKER_CONCURRENCY": "2",
    }

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-m", "services.parity.worker"], env=environment)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait(10)


async def reached(client: ParityClient, job_id: str, done: Callable[[JobStatus], bool]) -> JobStatus:
    async def look() -> JobStatus | None:
        status = await client.job(job_id)
        return status if done(status) else None

    status = await async_wait_until(look, timeout=120.0, every=0.05)
    assert status is not None
    return status


async def test_a_killed_worker_changes_nothing_in_the_set(
    api: ParityClient, spec: Spec, store: Store, teacher: Model, start_worker: Start
) -> None:
    worker = start_worker()
    calm = await api.submit(spec())
    await reached(api, calm.id, lambda job: job.state is JobState.TRAINING)
    teacher[0].delay = 0.1
    job = await api.submit(spec())
    await reached(api, job.id, lambda status: status.images.done >= 3)
    worker.kill()
    worker.wait(10)
    assert (await api.job(job.id)).shards.done < 4
    start_worker()
    job = await reached(api, job.id, lambda status: status.state is JobState.TRAINING)
    assert (job.shards.done, job.pairs) == (4, 40)
    assert set_digest(store, job.id) == set_digest(store, calm.id)


async def test_a_stopped_worker_ends_soon_and_gives_its_shards_back(
    api: ParityClient, spec: Spec, jobs: JobStore, teacher: Model, start_worker: Start
) -> None:
    teacher[0].delay = 60.0
    worker = start_worker()
    job = await api.submit(spec())
    await async_wait_until(lambda: _asked(teacher), timeout=60.0)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(10) == 0
    shards = (await jobs.snapshot(job.id)).round_shards().values()
    assert all(shard.attempts == 0 and not shard.token for shard in shards)
    teacher[0].delay = 0.0
    start_worker()
    await reached(api, job.id, lambda status: status.state is JobState.TRAINING)


async def _asked(teacher: Model) -> bool:
    return len(teacher[0].requests) > 0


async def test_a_worker_killed_in_the_second_round_changes_nothing_in_the_set(
    api: ParityClient, spec: Spec, store: Store, jobs: JobStore, teacher: Model, student: Model, start_worker: Start
) -> None:
    rounds = {"max": 2, "min_gain": 0.0, "steer": True}
    worker = start_worker()
    digests = []
    for disturbed in (False, True):
        job = await api.submit(spec(rounds=rounds))
        await reached(api, job.id, lambda status: status.state is JobState.TRAINING)
        student[0].beside.clear()  # nobody serves the candidate yet, so the workers have to ask for it
        teacher[0].delay = 0.1 if disturbed else 0.0
        await train(jobs, store, job.id, goes_on=True)
        if disturbed:
            await reached(api, job.id, lambda status: status.round == 2 and status.images.done >= 3)
            worker.kill()
            worker.wait(10)
            await jobs._hash.redis.flushall()  # and Redis with it
            student[0].beside.clear()
            worker = start_worker()
        job = await reached(api, job.id, lambda status: status.state is JobState.TRAINING)
        assert (job.round, job.shards.done, job.pairs) == (2, 4, 80)
        digests.append(set_digest(store, job.id))
    assert digests[0] == digests[1]
