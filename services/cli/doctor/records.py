"""Checks of the jobs' records: which jobs Redis or the artifact store has lost or damaged."""

from __future__ import annotations

import time
from collections.abc import Callable

from services.cli.doctor.checks import broken, in_thread, ok, warning
from shared.compatibility import read_stored
from shared.contracts import Finding, StoredSpec
from shared.errors import Damaged, MPAError, NewerSchema, NotFound
from shared.state import JobStore
from shared.store import Store

NAME = "jobs"
MOST_NAMED = 10
_FIX = (
    "Put the named file back from a backup: the reconciler then rebuilds the record by itself. "
    "Or give the job up: delete its folder below jobs/ in the store."
)


async def record_findings(redis_url: str, open_store: Callable[[], Store], seconds: float) -> list[Finding]:
    """One finding for each job that cannot be read. Looks at the newest jobs first, for at most ``seconds``."""
    store, jobs = await in_thread(open_store), JobStore.from_url(redis_url)
    try:
        known, stored = await jobs.known(), await in_thread(lambda: store.list_dirs("jobs"))
        deadline, looked_at = time.monotonic() + seconds, 0
        found: list[Finding] = []
        for job_id in sorted(known | set(stored), reverse=True):
            if time.monotonic() > deadline or len(found) == MOST_NAMED:
                break
            looked_at += 1
            if (problem := await _problem(jobs, store, job_id, listed=job_id in known)) is not None:
                found.append(problem)
    finally:
        await jobs.aclose()
    rest = len(known | set(stored)) - looked_at
    return found or [ok(NAME, f"{looked_at} can be read" + (f"; {rest} older ones were not looked at" if rest else ""))]


async def _problem(jobs: JobStore, store: Store, job_id: str, *, listed: bool) -> Finding | None:
    name = f"job {job_id}"
    try:
        spec = await in_thread(lambda: _spec(store, job_id))
    except NewerSchema as error:
        return warning(name, error.detail, "Let processes of the later release do it.")
    except Damaged as error:
        return broken(name, error.detail, _FIX)
    try:
        await jobs.snapshot(job_id)
    except NewerSchema as error:
        return warning(name, error.detail, "Let processes of the later release do it.")
    except (Damaged, NotFound) as error:
        return _lost(name, error, spec, listed=listed)
    if spec is None:
        return broken(name, f"{store.url_of(_key(job_id))} is gone, and workers need it", _FIX)
    return None


def _lost(name: str, error: MPAError, spec: StoredSpec | None, *, listed: bool) -> Finding | None:
    """Of a record that Redis has lost or damaged."""
    if spec is not None:
        return warning(name, f"Redis has no good record of it: {error.detail}", "Nothing: the parity API rebuilds it.")
    if not listed:
        return None  # never accepted
    return broken(name, "neither Redis nor the artifact store has a record of it", _FIX)


def _spec(store: Store, job_id: str) -> StoredSpec | None:
    try:
        data = store.read(_key(job_id))
    except NotFound:
        return None
    return read_stored(StoredSpec, data, store.url_of(_key(job_id)))


def _key(job_id: str) -> str:
    return f"jobs/{job_id}/spec.json"
