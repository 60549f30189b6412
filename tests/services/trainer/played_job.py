"""A job whose mining, and where a test wants it whose gradients, the test plays; everything else is the trainer's."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

from services.trainer.run_config import EvaluationResult, TrainResult, save
from services.trainer.worker.flow import TrainingFlow
from services.trainer.worker.workspace import Workspace
from shared.contracts import Evaluation, JobSpec, JobState, JobStatus, StoredSpec, TaskScore, TrainSpec
from shared.sets import set_digest
from shared.settings import TrainerSettings
from shared.state import JobStore
from shared.store import Store
from tests.services.trainer.small_set import job_spec


def scores(before: float, after: float, chart: float | None = None) -> EvaluationResult:
    """Agreement overall and, unless ``chart`` says otherwise, the same on the only task."""
    overall = TaskScore(questions=10, agreement_before=before, agreement_after=after)
    task = overall.model_copy(update={"agreement_after": after if chart is None else chart})
    return EvaluationResult(Evaluation(overall=overall, tasks={"chart": task}))


class PlayedJob:
    """Job ``j1``, on a real Redis and a real store."""

    def __init__(self, settings: TrainerSettings, store: Store, jobs: JobStore, base: Path) -> None:
        self.settings, self.store, self.jobs, self.base = settings, store, jobs, base

    async def submit(self, spec: JobSpec) -> None:
        stored = StoredSpec(job_id="j1", created_at=datetime.now(UTC), spec=spec, images=20, shards=1)
        await self.jobs.create(stored)
        await self.jobs.transition("j1", JobState.QUEUED, JobState.COLLECTING)

    def measured(self, before: float, after: float, *, number: int = 1, started_from: str = "base") -> None:
        """What a worker left that died between its evaluation and the publication."""
        workspace = Workspace(self.store, "j1", number)
        workspace.begin(started_from, set_digest(self.store, "j1"))
        folder = workspace.folder()
        shutil.copytree(self.base, folder / "candidate")
        save(folder / "result.json", TrainResult(40, 0.5, 100.0, 8, 8, {"answer": 1.0}))
        save(folder / "evaluation.json", scores(before, after))

    async def run(self, owner: str = "w1") -> JobStatus:
        """Let a worker take the job, whose shards are done."""
        await self.jobs.transition("j1", JobState.COLLECTING, JobState.TRAINING)
        await TrainingFlow(self.settings, self.store, self.jobs, owner).run("j1")
        return await self.status()

    async def status(self) -> JobStatus:
        return await self.jobs.get("j1")


async def in_training(jobs: JobStore, job_id: str) -> None:
    """A job that waits for a trainer."""
    spec = job_spec(TrainSpec())
    await jobs.create(StoredSpec(job_id=job_id, created_at=datetime.now(UTC), spec=spec, images=8, shards=1))
    await jobs.transition(job_id, JobState.QUEUED, JobState.COLLECTING)
    await jobs.transition(job_id, JobState.COLLECTING, JobState.TRAINING)
