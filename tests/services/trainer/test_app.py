"""The trainer's HTTP face and its worker process, on a real Redis."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from services.trainer.app import make_app
from services.trainer.trainings import CURVE_POINTS
from shared.checkpoints import CheckpointRegistry
from shared.contracts import JobState, StoredSpec, TrainingProgress, TrainSpec
from shared.queue import enqueue_training, make_celery
from shared.settings import TrainerSettings
from shared.state import JobStore
from shared.store import Store
from tests.polling import async_wait_until, wait_until
from tests.services.trainer.small_set import Counts, job_spec, make_set


@pytest.fixture
def settings(tmp_path: Path, redis_url: str, store: Store) -> TrainerSettings:
    return TrainerSettings(data_dir=tmp_path, store=store.url, redis_url=redis_url)


@pytest.fixture
async def client(settings: TrainerSettings) -> AsyncIterator[httpx.AsyncClient]:
    app = make_app(settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://trainer") as client:
            yield client


async def in_training(jobs: JobStore, job_id: str) -> None:
    spec = job_spec(TrainSpec())
    await jobs.create(StoredSpec(job_id=job_id, created_at=datetime.now(UTC), spec=spec, images=8, shards=1))
    await jobs.transition(job_id, JobState.QUEUED, JobState.COLLECTING)
    await jobs.transition(job_id, JobState.COLLECTING, JobState.TRAINING)


async def test_trainings_show_progress_and_losses(client: httpx.AsyncClient, jobs: JobStore, store: Store) -> None:
    await in_training(jobs, "j1")
    assert (await client.get("/v1/trainings/j1")).status_code == 404
    lease = await jobs.trainings.acquire("j1", "w", 30, 3)
    assert lease is not None
    await jobs.trainings.heartbeat(lease, 30, TrainingProgress(step=2, steps=4, loss=1.5))
    lines = '{"step": 1, "steps": 4, "loss": 2.0}\n{"step": 2, "steps": 4, "loss": 1.5}\n{"step": 3, "st'
    store.write("training/j1/progress.jsonl", lines.encode())
    shown = (await client.get("/v1/trainings/j1")).json()
    assert (shown["state"], shown["progress"]["step"]) == ("training", 2)
    assert shown["losses"] == [[1, 2.0], [2, 1.5]]
    listed = (await client.get("/v1/trainings")).json()["trainings"]
    assert [item["job_id"] for item in listed] == ["j1"]


@pytest.mark.parametrize("steps", [1, 499, 500, 501, 999, 5000])
async def test_a_loss_curve_has_at_most_so_many_points(
    client: httpx.AsyncClient, jobs: JobStore, store: Store, steps: int
) -> None:
    await in_training(jobs, "j1")
    lease = await jobs.trainings.acquire("j1", "w", 30, 3)
    assert lease is not None
    await jobs.trainings.heartbeat(lease, 30, TrainingProgress(step=steps, steps=steps, loss=1.5))
    lines = [f'{{"step": {step}, "steps": {steps}, "loss": 1.5}}\n' for step in range(1, steps + 1)]
    store.write("training/j1/progress.jsonl", "".join(lines).encode())
    shown = (await client.get("/v1/trainings/j1")).json()["losses"]
    assert min(steps, CURVE_POINTS) / 2 <= len(shown) <= CURVE_POINTS
    assert len({later[0] - earlier[0] for earlier, later in pairwise(shown)}) <= 1, "not evenly spread"


async def test_unknown_things_are_problems(client: httpx.AsyncClient) -> None:
    for path in ("/v1/trainings/none", "/v1/checkpoints/none"):
        response = await client.get(path)
        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"
        assert "none" in response.json()["detail"]


async def test_checkpoints_are_listed_with_their_cards(
    client: httpx.AsyncClient, store: Store, tiny_student: Path
) -> None:
    assert (await client.get("/v1/checkpoints")).json() == {
        "student": "student",
        "active": "",
        "previous": None,
        "checkpoints": [],
    }
    CheckpointRegistry(store, "student").register_base(tiny_student)
    listed = (await client.get("/v1/checkpoints")).json()
    assert [(c["version"], c["active"]) for c in listed["checkpoints"]] == [("base", True)]
    card = (await client.get("/v1/checkpoints/base")).json()
    assert card["digest"] == listed["checkpoints"][0]["digest"]


async def test_readiness_needs_redis(settings: TrainerSettings, client: httpx.AsyncClient, free_port: int) -> None:
    assert (await client.get("/readyz")).json()["ready"]
    app = make_app(settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{free_port}/0"}))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://trainer") as other:
            response = await other.get("/readyz")
    assert response.status_code == 503
    assert "Redis" in response.json()["reason"]


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
