"""The report of a job: its final status, and what is needed to reproduce the run."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from shared.compatibility import read_shown, reading
from shared.contracts import JobReport, JobStatus
from shared.errors import Damaged, NotFound
from shared.sets import set_digest, set_prefix
from shared.state import JobStore, Snapshot, seconds_by_state, shards_done, to_status
from shared.store import Store

log = logging.getLogger(__name__)

SAME_TIME = timedelta(microseconds=10)
"""Times lose some digits on their way through a report."""


def report_key(job_id: str) -> str:
    return f"jobs/{job_id}/report.json"


def shown(snapshot: Snapshot, store: Store) -> JobStatus:
    """The status, with the URL of the set as soon as there is one."""
    status = to_status(snapshot)
    if status.shards.done == 0:
        return status
    return status.model_copy(update={"set_url": store.url_of(set_prefix(status.id))})


async def make_report(jobs: JobStore, store: Store, job_id: str) -> JobReport:
    """The stored report of a finished job, or a report of the state so far. Raises NotFound."""
    snapshot = await jobs.snapshot(job_id)
    return await _published(store, snapshot) or await _written(store, snapshot)


async def _published(store: Store, snapshot: Snapshot) -> JobReport | None:
    """The stored report of this final state. It knows more than a record that was rebuilt from it, which has no times
    but those of the beginning and the end.
    """
    if not snapshot.state.is_final:
        return None
    stored = await asyncio.to_thread(_readable_report, store, snapshot.stored.job_id)
    return stored if stored is not None and _tells_of_this_end(stored.status, snapshot) else None


async def _written(store: Store, snapshot: Snapshot) -> JobReport:
    complete = shards_done(snapshot)
    return JobReport(
        status=shown(snapshot, store),
        spec=snapshot.stored.spec,
        set_digest=await asyncio.to_thread(set_digest, store, snapshot.stored.job_id) if complete else None,
        seconds=seconds_by_state(snapshot),
        run=snapshot.run,
    )


def _tells_of_this_end(status: JobStatus, snapshot: Snapshot) -> bool:
    """A retried job ends at another time."""
    ended = to_status(snapshot).finished_at
    stored = status.finished_at or status.updated_at
    return status.state is snapshot.state and ended is not None and abs(ended - stored) < SAME_TIME


async def publish_report(jobs: JobStore, store: Store, job_id: str) -> bool:
    """Store the final report, so that the reconciler leaves the job alone. True for the one caller that did so.

    A report of this end that is stored already stays as it is.
    """
    snapshot = await jobs.snapshot(job_id)
    if not snapshot.state.is_final:
        return False
    if await _published(store, snapshot) is None:
        data = (await _written(store, snapshot)).model_dump_json(indent=1).encode()
        await asyncio.to_thread(store.write, report_key(job_id), data)
    return await jobs.mark_reported(job_id)


async def withdraw_report(store: Store, job_id: str) -> None:
    """Delete the report: a retried job is no longer final."""
    await asyncio.to_thread(store.delete, report_key(job_id))


def read_report(store: Store, job_id: str) -> JobReport | None:
    """None if there is none. Raises Damaged."""
    try:
        data = store.read(report_key(job_id))
    except NotFound:
        return None
    with reading(store.url_of(report_key(job_id))):
        return read_shown(JobReport, data)


def _readable_report(store: Store, job_id: str) -> JobReport | None:
    """None also for a damaged one, where the job's record can replace it."""
    try:
        return read_report(store, job_id)
    except Damaged as error:
        log.error("It is written again from the job's record: %s", error.detail, extra={"job_id": job_id})
        return None
