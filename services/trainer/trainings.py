"""What the API shows of trainings: the job's record, and the losses from the working folder."""

from __future__ import annotations

import asyncio
import math

from services.trainer.run_config import read_progress
from services.trainer.worker.workspace import prefix_of
from shared.contracts import JobState, JobStatus, TrainingInfo, TrainingList
from shared.errors import Damaged, NewerSchema, NotFound
from shared.state import JobStore
from shared.store import Store

RECENT_JOBS = 50
CURVE_POINTS = 500
_UNTRAINED = frozenset({JobState.QUEUED, JobState.COLLECTING})


class Trainings:
    """Reads only."""

    def __init__(self, jobs: JobStore, store: Store) -> None:
        self._jobs, self._store = jobs, store

    async def recent(self) -> TrainingList:
        """Recent jobs that reached the training, without their loss curves."""
        page, _ = await self._jobs.page(None, RECENT_JOBS)
        statuses = [status for job_id in page if (status := await self._readable(job_id)) is not None]
        trained = [status for status in statuses if status.state not in _UNTRAINED and status.training is not None]
        return TrainingList(trainings=[_info(status, []) for status in trained])

    async def get(self, job_id: str) -> TrainingInfo:
        """One training with its loss curve; raises NotFound."""
        status = await self._jobs.get(job_id)
        if status.training is None:
            raise NotFound(f"Job {job_id} has not been trained yet: it is {status.state}.")
        return _info(status, await asyncio.to_thread(self._losses, job_id, status.round))

    async def _readable(self, job_id: str) -> JobStatus | None:
        """None for a record that is lost or damaged: the parity service shows why."""
        try:
            return await self._jobs.get(job_id)
        except (NotFound, Damaged, NewerSchema):
            return None

    def _losses(self, job_id: str, round_: int) -> list[tuple[int, float]]:
        """At most CURVE_POINTS (step, loss), evenly spread; none if the working folder is on another machine."""
        file = self._store.local_path(f"{prefix_of(job_id, round_)}/progress.jsonl")
        if file is None or not file.is_file():
            return []
        lines = read_progress(file)
        every = max(1, math.ceil(len(lines) / CURVE_POINTS))
        return [(line.step, line.loss) for line in lines[::every] if math.isfinite(line.loss)]


def _info(status: JobStatus, losses: list[tuple[int, float]]) -> TrainingInfo:
    return TrainingInfo(
        job_id=status.id,
        state=status.state,
        progress=status.training,
        evaluation=status.evaluation,
        checkpoint=status.checkpoint,
        last_error=status.last_error,
        waiting_for=status.waiting_for,
        losses=losses,
    )
