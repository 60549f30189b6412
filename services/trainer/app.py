"""The trainer's HTTP API: what is being trained, and which checkpoints there are. The worker does the training."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Path, Request
from redis.exceptions import RedisError

from services.trainer.trainings import Trainings
from shared.checkpoints import CheckpointRegistry
from shared.contracts import CheckpointCard, CheckpointList, Health, TrainingInfo, TrainingList
from shared.http import create_app, errors
from shared.settings import TrainerSettings
from shared.state import REDIS_OUTAGES, JobStore, redis_trouble
from shared.store import Store


def make_app(settings: TrainerSettings) -> FastAPI:
    """The trainer service's app."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        store = Store(settings.store_url, settings.data_dir.absolute() / "cache")
        jobs = JobStore.from_url(settings.redis_url)
        app.state.jobs = jobs
        app.state.trainings = Trainings(jobs, store)
        app.state.registry = CheckpointRegistry(store, settings.student_name)
        yield
        await jobs.aclose()

    app = create_app("trainer", settings, lifespan=lifespan, ready=_ready, outages=REDIS_OUTAGES)
    _add_routes(app)
    return app


def _add_routes(app: FastAPI) -> None:
    @app.get("/v1/trainings", tags=["trainings"])
    async def list_trainings(trainings: Annotated[Trainings, Depends(_trainings)]) -> TrainingList:
        """Running and finished trainings of recent jobs, newest first."""
        return await trainings.recent()

    @app.get("/v1/trainings/{job_id}", tags=["trainings"])
    async def get_training(
        job_id: Annotated[str, Path(description="id of the job")], trainings: Annotated[Trainings, Depends(_trainings)]
    ) -> TrainingInfo:
        """State, progress and losses of one job's training."""
        return await trainings.get(job_id)

    @app.get("/v1/checkpoints", tags=["checkpoints"], responses=errors(409))
    async def list_checkpoints(registry: Annotated[CheckpointRegistry, Depends(_registry)]) -> CheckpointList:
        """All versions of the student, oldest first."""
        return await asyncio.to_thread(registry.list)

    @app.get("/v1/checkpoints/{version}", tags=["checkpoints"], responses=errors(409, 422))
    async def get_checkpoint(
        version: Annotated[str, Path(description="version of the checkpoint")],
        registry: Annotated[CheckpointRegistry, Depends(_registry)],
    ) -> CheckpointCard:
        """The card of one version: its base, job, set and evaluation."""
        return await asyncio.to_thread(registry.card, version)


def _trainings(request: Request) -> Trainings:
    trainings: Trainings = request.app.state.trainings
    return trainings


def _registry(request: Request) -> CheckpointRegistry:
    registry: CheckpointRegistry = request.app.state.registry
    return registry


async def _ready(app: FastAPI) -> Health:
    """Ready when Redis takes writes."""
    jobs: JobStore = app.state.jobs
    try:
        await jobs.ping()
    except (RedisError, OSError) as error:
        return Health(service="trainer", ready=False, reason=redis_trouble(error))
    return Health(service="trainer", ready=True)
