"""What the API shows of trainings: the job's progress, and a loss curve of bounded length."""

from __future__ import annotations

from itertools import pairwise

import pytest

from services.trainer.trainings import CURVE_POINTS, Trainings
from shared.contracts import JobState, TrainingProgress
from shared.errors import NotFound
from shared.state import JobStore
from shared.store import Store
from tests.services.trainer.played_job import in_training


async def report(jobs: JobStore, progress: TrainingProgress) -> None:
    lease = await jobs.trainings.acquire("j1", "w", 30, 3)
    assert lease is not None
    await jobs.trainings.heartbeat(lease, 30, progress)


async def test_a_training_shows_progress_and_losses(jobs: JobStore, store: Store) -> None:
    trainings = Trainings(jobs, store)
    await in_training(jobs, "j1")
    with pytest.raises(NotFound, match="has not been trained yet: it is training"):
        await trainings.get("j1")
    assert (await trainings.recent()).trainings == []
    progress = TrainingProgress(step=2, steps=4, loss=1.5)
    await report(jobs, progress)
    lines = '{"step": 1, "steps": 4, "loss": 2.0}\n{"step": 2, "steps": 4, "loss": 1.5}\n{"step": 3, "st'
    store.write("training/j1/progress.jsonl", lines.encode())
    shown = await trainings.get("j1")
    assert (shown.state, shown.progress, shown.losses) == (JobState.TRAINING, progress, [(1, 2.0), (2, 1.5)])
    listed = (await trainings.recent()).trainings
    assert [(one.job_id, one.progress, one.losses) for one in listed] == [("j1", progress, [])]


async def test_a_curve_on_another_machine_is_left_out(jobs: JobStore, store: Store) -> None:
    await in_training(jobs, "j1")
    await report(jobs, TrainingProgress(step=2, steps=4, loss=1.5))
    for elsewhere in (Store("memory://elsewhere"), store):
        assert (await Trainings(jobs, elsewhere).get("j1")).losses == []


@pytest.mark.parametrize("steps", [1, 499, 500, 501, 999, 5000])
async def test_a_loss_curve_has_at_most_so_many_points(jobs: JobStore, store: Store, steps: int) -> None:
    await in_training(jobs, "j1")
    await report(jobs, TrainingProgress(step=steps, steps=steps, loss=1.5))
    lines = [f'{{"step": {step}, "steps": {steps}, "loss": 1.5}}\n' for step in range(1, steps + 1)]
    store.write("training/j1/progress.jsonl", "".join(lines).encode())
    shown = (await Trainings(jobs, store).get("j1")).losses
    assert min(steps, CURVE_POINTS) / 2 <= len(shown) <= CURVE_POINTS
    assert len({later[0] - earlier[0] for earlier, later in pairwise(shown)}) <= 1, "not evenly spread"
