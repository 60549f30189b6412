"""Submit a job and do its shards and its rounds, without Celery."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from services.parity.images.access import SourceRules
from services.parity.jobs.submission import Submitter
from services.parity.worker.shard import ShardWork
from shared.client import ParityClient
from shared.contracts import JobSpec, JobState, JobStatus, Outcome, RoundReport
from shared.sets import read_set
from shared.sets.rounds import publish_round, read_rounds, task_shares
from shared.settings import ParitySettings
from shared.state import JobStore, shards_of_round
from shared.store import Store
from tests.quick_server import ServerThread
from tests.scripted_models import ScriptedModel

Spec = Callable[..., dict[str, Any]]
Submit = Callable[[dict[str, Any]], Awaitable[str]]
Model = tuple[ScriptedModel, ServerThread]
SHARDS = 4
"""The shards of a round over the pile."""
TWO = {"max": 2, "min_disparity": 0.0, "min_gain": 0.0}
"""Two rounds, whatever the first one brings."""


async def _no_check() -> None:
    """No job here asks for attention."""


async def _no_check_of_rounds(spec: JobSpec) -> None:
    """No job here has several."""


def submitter(settings: ParitySettings, work: ShardWork) -> Submitter:
    """One that asks no model server what it can do."""
    rules = SourceRules(settings.image_roots, False, 1000)
    return Submitter(
        work.jobs, work.store, work.profiles, ["student"], rules, _no_check, _no_check, _no_check_of_rounds
    )


async def collect(work: ShardWork, job_id: str, round_: int = 1) -> None:
    """Do all shards of a round."""
    shards = (await work.jobs.snapshot(job_id)).stored.shards
    await asyncio.gather(*(work.run(job_id, shard) for shard in shards_of_round(round_, shards)))


async def rows_of(api: ParityClient, work: ShardWork, store: Store, spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of the first shard of a new job."""
    job = await api.submit(spec)
    await work.run(job.id, 0)
    rows: list[dict[str, Any]] = read_set(store, job.id).to_pylist()
    return rows


async def train(jobs: JobStore, store: Store, job_id: str, *, goes_on: bool) -> None:
    """What the trainer does with a round, but for the training."""
    lease = await jobs.trainings.acquire(job_id, "trainer", 30, 3)
    assert lease is not None
    number = (await jobs.snapshot(job_id)).info.round
    rows = read_set(store, job_id, rounds=[number])
    report = RoundReport(
        round=number,
        student="base" if number == 1 else f"job-{number - 1}",
        candidate=f"job-{number}",
        pairs=rows.num_rows,
        verdicts={},
        tasks=task_shares(rows),
        failed_questions={"chart": ["what is number 3?"]},
        goes_on=goes_on,
    )
    publish_round(store, job_id, report)
    rounds = read_rounds(store, job_id)
    await jobs.trainings.advance(lease, JobState.EVALUATING, rounds=rounds)
    if goes_on:
        await jobs.trainings.next_round(lease, rounds)
    else:
        await jobs.trainings.finish(lease, Outcome.KEPT, "the end", rounds=rounds)


async def in_second_round(api: ParityClient, work: ShardWork, spec: dict[str, Any]) -> JobStatus:
    """A new job whose first round is over."""
    job = await api.submit(spec)
    await collect(work, job.id)
    await train(work.jobs, work.store, job.id, goes_on=True)
    return await api.job(job.id)
