"""Rebuilds the record of a job from the artifact store after Redis lost it."""

from __future__ import annotations

import asyncio
import logging

from services.parity.jobs.report import read_report
from services.parity.jobs.submission import read_spec
from shared.contracts import StoredSpec
from shared.errors import NewerSchema
from shared.sets import read_shard, shard_numbers, summarise
from shared.sets.rounds import read_rounds
from shared.state import JobStore, Rebuilt
from shared.store import Store

log = logging.getLogger(__name__)


async def rebuild_all(jobs: JobStore, store: Store) -> int:
    """Rebuild every accepted job without a record. Returns how many were rebuilt."""
    stored = await asyncio.to_thread(store.list_dirs, "jobs")
    lost = sorted(set(stored) - await jobs.known())
    return sum([await rebuild(jobs, store, job_id) for job_id in lost])


async def rebuild(jobs: JobStore, store: Store, job_id: str) -> bool:
    """Rebuild one job. False if it was never accepted or has a record."""
    try:
        spec = await asyncio.to_thread(read_spec, store, job_id)
    except NewerSchema as error:
        # The rebuilt record would lack what this release does not know.
        log.warning("The job's record was not rebuilt: %s", error.detail, extra={"job_id": job_id})
        return False
    if spec is None:
        return False
    made = await jobs.create(spec, await asyncio.to_thread(_what_is_stored, store, spec))
    if made:
        log.warning("Rebuilt the job's record from the artifact store.", extra={"job_id": job_id})
    return made


def _what_is_stored(store: Store, spec: StoredSpec) -> Rebuilt:
    numbers = shard_numbers(store, spec.job_id)
    shards = {number: summarise(read_shard(store, spec.job_id, number)) for number in numbers}
    report = read_report(store, spec.job_id)
    return Rebuilt(shards, None if report is None else report.status, read_rounds(store, spec.job_id))
