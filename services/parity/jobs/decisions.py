"""Cancels and retries that were acknowledged: in the artifact store before Redis, so that they survive its loss.

``jobs/<id>/decisions/<number>.json``, from 1, each written once. The last one says whether the job is cancelled, and
how often it was retried: a job without a record is rebuilt so (services/parity/jobs/rebuild.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Literal

from pydantic import Field

from shared.compatibility import read_stored
from shared.contracts import Stored
from shared.errors import Conflict, Unavailable
from shared.state import JobStore, Snapshot, check_cancel, check_retry
from shared.store import Store

TRIES = 8


class Decision(Stored):
    """``run``: how often the job was retried, this time included. Run 0 is the first one."""

    number: int = Field(ge=1)
    action: Literal["cancel", "retry"]
    run: int = Field(ge=0)
    at: datetime


async def cancel(jobs: JobStore, store: Store, job_id: str) -> None:
    """Doing it twice changes nothing. Raises Conflict for a job that is final or being promoted, NotFound, Damaged."""
    state, run = await jobs.state_and_run(job_id)
    check_cancel(job_id, state)
    made = await asyncio.to_thread(_decide, store, job_id, "cancel", run)
    try:
        await jobs.cancel(job_id)
    except Conflict:
        await asyncio.to_thread(_withdraw, store, job_id, made)
        raise


async def retry(jobs: JobStore, store: Store, snapshot: Snapshot, again: Collection[int] = ()) -> None:
    """Begin the next run. Raises Conflict unless the job failed or was cancelled.

    ``again``: finished shards that are due once more (redo.py); then the job may also have succeeded.
    """
    job_id = snapshot.stored.job_id
    check_retry(job_id, snapshot.state, succeeded=bool(again))
    made = await asyncio.to_thread(_decide, store, job_id, "retry", snapshot.run + 1)
    try:
        await jobs.retry(job_id, made.run, again, seen=snapshot)
    except Conflict:
        await asyncio.to_thread(_withdraw, store, job_id, made)
        raise


def read_decisions(store: Store, job_id: str) -> list[Decision]:
    """The oldest first. Raises Damaged, NewerSchema."""
    keys = [key for key in store.list(_folder(job_id)) if key.endswith(".json")]
    return [read_stored(Decision, store.read(key), store.url_of(key)) for key in keys]


def _decide(store: Store, job_id: str, action: Literal["cancel", "retry"], run: int) -> Decision:
    """Write the decision, unless the last one is the same: a call that died in between, or one beside this one."""
    for _ in range(TRIES):
        known = read_decisions(store, job_id)
        last = known[-1] if known else None
        if last is not None and last.action == action and last.run >= run:
            return last
        number = last.number + 1 if last else 1
        made = Decision(number=number, action=action, run=max(run, last.run if last else 0), at=datetime.now(UTC))
        if store.create(_key(job_id, number), made.model_dump_json(indent=1).encode()):
            return made
    raise Unavailable(f"Job {job_id} is being cancelled and retried too fast: try again.", retry_after=1.0)


def _withdraw(store: Store, job_id: str, made: Decision) -> None:
    """It was too late: the job went on, or ended, between the look at it and the write."""
    last = read_decisions(store, job_id)[-1:]
    if last == [made]:
        store.delete(_key(job_id, made.number))


def _folder(job_id: str) -> str:
    return f"jobs/{job_id}/decisions"


def _key(job_id: str, number: int) -> str:
    return f"{_folder(job_id)}/{number:05d}.json"
