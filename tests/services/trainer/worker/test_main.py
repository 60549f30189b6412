"""The trainer's worker process, on a real Redis."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.checkpoints import CheckpointRegistry
from shared.contracts import JobState
from shared.queue import enqueue_training, make_celery
from shared.settings import TrainerSettings
from shared.state import JobStore
from shared.store import Store
from tests.polling import async_wait_until, wait_until
from tests.services.trainer.played_job import in_training
from tests.services.trainer.small_set import Counts, make_set


@pytest.fixture
def settings(tmp_path: Path, redis_url: str, store: Store) -> TrainerSettings:
    return TrainerSettings(data_dir=tmp_path, store=store.url, redis_url=redis_url)


@pytest.fixture
def worker(settings: TrainerSettings) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        "MPA_DATA_DIR": str(settings.data_dir),
        "MPA_STORE": settings.store,
        "MPA_REDIS_URL": settings.redis_url,
        "PATH": "/usr/bin:/bin",
    }
    process = subprocess.Popen([sys.executable, "-m", "services.trainer.worker"], env=environment)
    yield process
    process.kill()
    process.wait()


@pytest.mark.slow
async def test_the_worker_takes_jobs_from_the_queue_and_ends_on_sigterm(
    settings: TrainerSettings,
    worker: subprocess.Popen[bytes],
    jobs: JobStore,
    store: Store,
    tiny_student: Path,
    tmp_path: Path,
) -> None:
    CheckpointRegistry(store, "student").register_base(tiny_student)
    make_set(store, "j1", tmp_path / "images", Counts(disparity=0))
    await in_training(jobs, "j1")
    await asyncio.to_thread(enqueue_training, make_celery(settings, "test"), "j1")

    async def finished() -> bool:
        return (await jobs.get("j1")).state is JobState.SUCCEEDED

    await async_wait_until(finished, timeout=90)
    worker.send_signal(signal.SIGTERM)
    assert wait_until(lambda: worker.poll() is not None, timeout=20)
    assert worker.returncode == 0
