"""What no job needs any longer in the artifact store: a pure decision over an inventory.

Unknown objects are kept. A checkpoint with a card is kept forever, so the active version, the one that a rollback
returns to, bases and parents are never garbage. Nothing of an unfinished job is garbage either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from shared.contracts import JobState
from shared.images.traffic import HOUR_FORMAT
from shared.store import Entry

GRACE_SECONDS = 3600.0
"""Nothing younger is ever removed: it may be part of something that is still being published."""
CARD = "mpa_card.json"


class RemovalKind(StrEnum):
    TEMPORARY = "temporary"
    TRAINING = "training"
    CHECKPOINT = "checkpoint"
    SHARD = "shard"
    JOB = "job"
    PINNED = "pinned"
    TRAFFIC = "traffic"


@dataclass(frozen=True)
class JobFacts:
    """A job as Redis knows it. ``ended``: seconds since the epoch, None while the job is unfinished."""

    state: JobState
    ended: float | None
    shards: int
    """The largest number of shards that all its rounds can have."""


@dataclass(frozen=True)
class Inventory:
    """``jobs``, by id, are all that Redis knows. ``specs``: ids of jobs whose accepted spec is in the store.

    ``versions``: (student, version) of checkpoints that have a card or that a pointer names. ``referenced``: keys that
    manifests of unfinished jobs name.
    """

    now: float
    entries: tuple[Entry, ...]
    jobs: Mapping[str, JobFacts] = field(default_factory=dict)
    specs: frozenset[str] = frozenset()
    versions: frozenset[tuple[str, str]] = frozenset()
    referenced: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Removal:
    """``keys``: the objects to delete, which are all or some of those below ``prefix``."""

    prefix: str
    kind: RemovalKind
    why: str
    keys: tuple[str, ...]
    bytes: int


def garbage(inventory: Inventory, older_than: float, grace: float = GRACE_SECONDS) -> list[Removal]:
    """What may be deleted, by prefix. ``older_than`` and ``grace`` in seconds."""
    groups: dict[tuple[str, RemovalKind, str], list[Entry]] = {}
    ages: dict[str, float] = {}
    for entry in inventory.entries:
        found = _group(inventory, entry, older_than)
        if found is not None:
            groups.setdefault(found, []).append(entry)
            ages[found[0]] = max(ages.get(found[0], 0.0), entry.modified)
    limit = max(older_than, grace)
    return [
        Removal(prefix, kind, why, tuple(sorted(e.key for e in entries)), sum(e.bytes for e in entries))
        for (prefix, kind, why), entries in sorted(groups.items())
        if ages[prefix] <= inventory.now - limit and not inventory.referenced.intersection(e.key for e in entries)
    ]


def _group(inventory: Inventory, entry: Entry, older_than: float) -> tuple[str, RemovalKind, str] | None:
    """What the object is part of, and why that may be deleted; None if it must be kept."""
    match entry.key.split("/"):
        case [*_, name] if name.startswith(".tmp-"):
            return entry.key, RemovalKind.TEMPORARY, "left by an unfinished write"
        case ["training", job_id, _, *_]:
            return _training(inventory, job_id, older_than)
        case ["checkpoints", student, version, _, *_] if not version.startswith("."):
            if (student, version) not in inventory.versions:
                return f"checkpoints/{student}/{version}", RemovalKind.CHECKPOINT, f"never published: it has no {CARD}"
        case ["traffic", student, hour, _]:
            if _is_past(hour, inventory.now - older_than):
                return f"traffic/{student}/{hour}", RemovalKind.TRAFFIC, "sampled earlier than --older-than allows"
        case ["jobs", job_id, *rest] if rest:
            return _of_job(inventory, job_id, rest, older_than)
    return None


def _training(inventory: Inventory, job_id: str, older_than: float) -> tuple[str, RemovalKind, str] | None:
    job = inventory.jobs.get(job_id)
    if job is None:
        if job_id in inventory.specs:
            return None
        return f"training/{job_id}", RemovalKind.TRAINING, "its job does not exist"
    if not _is_over(job, inventory.now - older_than):
        return None
    return f"training/{job_id}", RemovalKind.TRAINING, f"its job is over ({job.state})"


def _of_job(
    inventory: Inventory, job_id: str, rest: list[str], older_than: float
) -> tuple[str, RemovalKind, str] | None:
    job = inventory.jobs.get(job_id)
    if job is None:
        if job_id in inventory.specs:
            return None
        return f"jobs/{job_id}", RemovalKind.JOB, "its job does not exist: it was never accepted, or it was deleted"
    if job.state is not JobState.SUCCEEDED or not _is_over(job, inventory.now - older_than):
        return None  # a failed or cancelled job may be retried
    match rest:
        case ["images", _]:
            return f"jobs/{job_id}/images", RemovalKind.PINNED, "copies of sampled traffic; its job succeeded"
        case ["set", name] if (number := _shard_number(name)) is not None and number >= job.shards:
            return (
                f"jobs/{job_id}/set/{name}",
                RemovalKind.SHARD,
                f"left by an abandoned round: its job has {job.shards} shards",
            )
    return None


def _is_over(job: JobFacts, before: float) -> bool:
    return job.state.is_final and job.ended is not None and job.ended <= before


def _is_past(hour: str, before: float) -> bool:
    try:
        end = datetime.strptime(hour, HOUR_FORMAT).replace(tzinfo=UTC) + timedelta(hours=1)
    except ValueError:
        return False
    return end.timestamp() <= before


def _shard_number(name: str) -> int | None:
    digits = name.removeprefix("shard-").removesuffix(".parquet")
    return int(digits) if name == f"shard-{digits}.parquet" and digits.isdecimal() else None


def total_bytes(removals: Iterable[Removal]) -> int:
    return sum(removal.bytes for removal in removals)
