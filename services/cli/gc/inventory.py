"""Takes stock of the artifact store and of Redis for the garbage collection, and deletes what is garbage."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator

import redis.exceptions

from services.cli.gc.rules import CARD, Inventory, JobFacts, Removal, RemovalKind, garbage
from shared.checkpoints import CheckpointRegistry
from shared.checkpoints.canaries import CanaryRegistry
from shared.compatibility import read_shown, reading
from shared.contracts import JobState, ManifestEntry
from shared.errors import Damaged, NewerSchema, NotFound, Unavailable
from shared.state import JobStore
from shared.state.redis_hash import Clock
from shared.store import Entry, Store


async def take_stock(store: Store, jobs: JobStore, clock: Clock = time.time) -> Inventory:
    """Raises Unavailable if Redis or the store does not answer: it never guesses."""
    return await _stock(store, jobs, await _entries(store, ""), clock)


async def sweep(
    store: Store, jobs: JobStore, removals: list[Removal], older_than: float, clock: Clock = time.time
) -> AsyncIterator[Removal]:
    """Delete each removal after a second look: what has become needed since is kept. Yields what was deleted."""
    for removal in removals:
        is_one_object = removal.kind in (RemovalKind.TEMPORARY, RemovalKind.SHARD)
        place = removal.prefix.rpartition("/")[0] if is_one_object else removal.prefix
        again = garbage(await _stock(store, jobs, await _entries(store, place), clock), older_than)
        for still in again:
            if still.prefix == removal.prefix:
                for key in still.keys:
                    await asyncio.to_thread(store.delete, key)
                yield still


async def _stock(store: Store, jobs: JobStore, entries: tuple[Entry, ...], clock: Clock) -> Inventory:
    facts = await _jobs(jobs)
    named = {parts[1] for e in entries if (parts := e.key.split("/"))[0] in ("jobs", "training") and len(parts) > 1}
    # Looked up by key: a spec may be newer than the listing, and ``sweep`` lists one folder only.
    specs = await asyncio.to_thread(lambda: {j for j in named if store.exists(f"jobs/{j}/spec.json")})
    versions = await asyncio.to_thread(_versions, store, entries)
    unfinished = [job_id for job_id, job in facts.items() if not job.state.is_final]
    referenced = await asyncio.to_thread(_referenced, store, unfinished)
    return Inventory(clock(), entries, facts, frozenset(specs), versions, referenced)


async def _entries(store: Store, prefix: str) -> tuple[Entry, ...]:
    return await asyncio.to_thread(lambda: tuple(store.entries(prefix)))


async def _jobs(jobs: JobStore) -> dict[str, JobFacts]:
    try:
        return {job_id: await _facts(jobs, job_id) for job_id in sorted(await jobs.known())}
    except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
        raise Unavailable(
            f"Redis cannot be asked which jobs are running ({error}), so nothing is removed: check MPA_REDIS_URL."
        ) from error


async def _facts(jobs: JobStore, job_id: str) -> JobFacts:
    """A job that cannot be read counts as unfinished, so that nothing of it is deleted."""
    try:
        snapshot = await jobs.snapshot(job_id)
    except (Damaged, NewerSchema, NotFound):
        return JobFacts(JobState.COLLECTING, None, sys.maxsize)
    ended = snapshot.info.since(snapshot.state) if snapshot.state.is_final else None
    return JobFacts(snapshot.state, ended, snapshot.stored.shards * snapshot.info.round)


def _versions(store: Store, entries: tuple[Entry, ...]) -> frozenset[tuple[str, str]]:
    seen = {(p[1], p[2]) for e in entries if (p := e.key.split("/"))[0] == "checkpoints" and len(p) > 3}
    kept = {(s, v) for s, v in seen if store.exists(f"checkpoints/{s}/{v}/{CARD}")}
    for student in {s for s, _ in seen}:
        canary = CanaryRegistry(store, student).latest()
        if canary is not None:
            kept |= {(student, canary.version), (student, canary.baseline)}
        try:
            pointer = CheckpointRegistry(store, student).active()
        except NotFound:
            continue
        kept.add((student, pointer.version))
        if pointer.previous is not None:
            kept.add((student, pointer.previous))
    return frozenset(kept)


def _referenced(store: Store, job_ids: list[str]) -> frozenset[str]:
    found: set[str] = set()
    for job_id in job_ids:
        try:
            lines = store.read(f"jobs/{job_id}/manifest.jsonl").splitlines()
        except NotFound:
            continue
        with reading(store.url_of(f"jobs/{job_id}/manifest.jsonl")):
            images = [read_shown(ManifestEntry, line).image for line in lines]
        found.update(image[len(store.url) + 1 :] for image in images if image.startswith(f"{store.url}/"))
    return frozenset(found)
