"""Rebuilds the record of a job from the artifact store after Redis lost or damaged it."""

from __future__ import annotations

import asyncio
import logging
import re
from datetime import UTC, datetime

from services.parity.jobs.decisions import read_decisions
from services.parity.jobs.redo import find_due
from services.parity.jobs.report import read_report
from services.parity.jobs.submission import read_spec
from shared.contracts import NAME_PATTERN, JobState, JobStatus, StageCount, StoredSpec
from shared.errors import Damaged, MPAError, NewerSchema, NotFound
from shared.sets import read_shard, shard_numbers, summarise
from shared.sets.rounds import read_rounds
from shared.state import JobStore, Rebuilt, ShardResult, Snapshot
from shared.store import Store

log = logging.getLogger(__name__)

UNREADABLE = (NotFound, Damaged, NewerSchema)
"""What is raised for a job that cannot be read: its record is lost or damaged, and it cannot be rebuilt."""


async def rebuild_all(jobs: JobStore, store: Store) -> int:
    """Rebuild every accepted job without a record. Returns how many were rebuilt.

    One that cannot be rebuilt is listed, so that the reconciler and people see it.
    """
    stored = await asyncio.to_thread(store.list_dirs, "jobs")
    rebuilt = 0
    for job_id in sorted(set(stored) - await jobs.known()):
        try:
            rebuilt += await rebuild(jobs, store, job_id)
        except (Damaged, NewerSchema):
            await jobs.list_without_record(job_id, _accepted_at(job_id).timestamp())
    return rebuilt


async def rebuild(jobs: JobStore, store: Store, job_id: str) -> bool:
    """Rebuild one job. False if it was never accepted or has a record.

    Raises Damaged if what the store has of it cannot be read, and NewerSchema if a later release wrote it: the rebuilt
    record would lack what this release does not know.
    """
    if not re.match(NAME_PATTERN, job_id):
        return False
    spec = await asyncio.to_thread(read_spec, store, job_id)
    if spec is None:
        return False
    if spec.job_id != job_id:
        raise Damaged(f"jobs/{job_id}/spec.json is that of job {spec.job_id}.")
    stored = await asyncio.to_thread(_what_is_stored, store, spec)
    try:
        await jobs.snapshot(job_id)
    except NotFound:
        pass
    except Damaged as error:
        log.error("The record is set aside: %s", error.detail, extra={"job_id": job_id})
        await jobs.set_aside(job_id)
    made = await jobs.create(spec, stored)  # if there is a record, this only puts the job back into the lists
    if made:
        log.warning("Rebuilt the job's record from the artifact store.", extra={"job_id": job_id})
    return made


async def read_or_rebuild(jobs: JobStore, store: Store, job_id: str) -> Snapshot:
    """The job, whose record is rebuilt first if Redis has lost or damaged it. Raises one of UNREADABLE."""
    try:
        return await jobs.snapshot(job_id)
    except (NotFound, Damaged):
        if not await rebuild(jobs, store, job_id):
            raise
    return await jobs.snapshot(job_id)


def unreadable_status(job_id: str, error: MPAError) -> JobStatus:
    """What a job that cannot be read looks like to users: failed for this reason, or left to a later release."""
    newer, when = isinstance(error, NewerSchema), _accepted_at(job_id)
    return JobStatus(
        id=job_id,
        name="",
        state=JobState.QUEUED if newer else JobState.FAILED,
        reason=None if newer else error.detail,
        last_error=None if newer else error.detail,
        waiting_for=error.detail if newer else None,
        created_at=when,
        updated_at=when,
        student="",
        tasks=[],
        images=StageCount(done=0, total=0),
        shards=StageCount(done=0, total=0),
    )


def _accepted_at(job_id: str) -> datetime:
    """As far as its id shows it: ids begin with the time."""
    try:
        return datetime.strptime(job_id[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)


def _what_is_stored(store: Store, spec: StoredSpec) -> Rebuilt:
    job_id = spec.job_id
    shards = {number: result for number in shard_numbers(store, job_id) if (result := _counted(store, job_id, number))}
    report, decided = read_report(store, job_id), read_decisions(store, job_id)
    last = decided[-1] if decided else None
    run, cancelled = (last.run, last.at if last.action == "cancel" else None) if last else (0, None)
    # A report of an earlier run was about to be withdrawn.
    final = report.status if report is not None and report.run >= run else None
    return Rebuilt(shards, final, read_rounds(store, job_id), run=run, cancelled=cancelled)


def _counted(store: Store, job_id: str, number: int) -> ShardResult | None:
    """None for a damaged file, which whoever collects the shard deals with, and for one with pairs to make again."""
    try:
        if find_due(store, job_id, number) is not None:
            return None
        return summarise(read_shard(store, job_id, number))
    except Damaged as error:
        log.error("%s", error.detail, extra={"job_id": job_id, "shard": number})
        return None
