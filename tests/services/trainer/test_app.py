"""The trainer's HTTP face, on a real Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from services.trainer.app import make_app
from shared.checkpoints import CheckpointRegistry
from shared.contracts import TrainingProgress
from shared.settings import TrainerSettings
from shared.state import JobStore
from shared.store import Store
from tests.services.trainer.played_job import in_training


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


async def test_trainings_are_listed_and_shown(client: httpx.AsyncClient, jobs: JobStore) -> None:
    await in_training(jobs, "j1")
    assert (await client.get("/v1/trainings/j1")).status_code == 404
    lease = await jobs.trainings.acquire("j1", "w", 30, 3)
    assert lease is not None
    await jobs.trainings.heartbeat(lease, 30, TrainingProgress(step=2, steps=4, loss=1.5))
    shown = (await client.get("/v1/trainings/j1")).json()
    assert (shown["state"], shown["progress"]["step"]) == ("training", 2)
    listed = (await client.get("/v1/trainings")).json()["trainings"]
    assert [item["job_id"] for item in listed] == ["j1"]
