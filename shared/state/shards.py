"""Leases on the shards of a job: take, renew, complete, give back and fail them; find those that need a message."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Sequence
from typing import TypeVar

from shared.compatibility import read_stored
from shared.contracts import JobState, StoredSpec
from shared.errors import LeaseLost
from shared.state import leases
from shared.state.records import (
    COLLECT_STATES,
    JobInfo,
    Lease,
    ShardRecord,
    ShardResult,
    WorkStatus,
    replace,
    run_of,
    shards_of_round,
)
from shared.state.redis_hash import Change, Fields, JobHash

T = TypeVar("T")


def shard_field(index: int) -> str:
    return f"shard:{index}"


class ShardLeases:
    """Times and ``ttl`` in seconds. The lease's token guards every write: a stale one raises LeaseLost."""

    def __init__(self, job_hash: JobHash) -> None:
        self._hash = job_hash

    async def acquire(self, job_id: str, shard: int, owner: str, ttl: float, max_attempts: int) -> Lease | None:
        """Take a shard. None if it is done, held, out of attempts or of another round, or the job is not collecting.

        Raises NotFound for an unknown job, NewerSchema for one that this release must not work on.
        """
        field, token = shard_field(shard), secrets.token_hex(8)

        def decide(fields: Fields, now: float) -> Change[Lease | None]:
            state = JobState(str(fields["state"]))
            record = ShardRecord.load(fields[field]).in_run(run_of(fields))
            stored = read_stored(StoredSpec, str(fields["spec"]), f"Job {job_id}")
            known = shard in shards_of_round(JobInfo.load(fields["info"]).round, stored.shards)
            if not known or state not in COLLECT_STATES or not record.is_free(now) or record.attempts >= max_attempts:
                return Change(None)
            taken = leases.take(record, owner, token, now + ttl)
            new = {field: replace(taken, progress=None).dump()}
            if state is JobState.QUEUED:
                info = JobInfo.load(fields["info"]).entered(JobState.COLLECTING, now)
                new |= {"state": str(JobState.COLLECTING), "info": info.dump()}
            return Change(Lease(job_id, shard, owner, token, now + ttl, taken.attempts), new)

        return await self._hash.update(job_id, ["state", "info", "run", field], decide)

    async def heartbeat(
        self, lease: Lease, ttl: float, progress: ShardResult | None = None, waiting_for: str | None = None
    ) -> Lease:
        """Renew, and report the live sums and what the work waits for. Raises LeaseLost, also after a cancel."""

        def step(record: ShardRecord, now: float) -> tuple[ShardRecord, Lease, bool]:
            new = replace(record, expires=now + ttl, progress=progress, waiting_for=waiting_for)
            visible = (record.progress, record.waiting_for) != (progress, waiting_for)
            return new, dataclasses.replace(lease, expires=now + ttl), visible

        return await self._guarded(lease, step)

    async def complete(self, lease: Lease, result: ShardResult) -> None:
        """The shard's file is published. Raises LeaseLost."""

        def step(record: ShardRecord, _now: float) -> tuple[ShardRecord, None, bool]:
            return replace(leases.finish(record), progress=None, result=result), None, True

        await self._guarded(lease, step, ends=True)

    async def release(self, lease: Lease) -> None:
        """Give the shard back because the worker is stopping; the attempt does not count. Raises LeaseLost."""

        def step(record: ShardRecord, now: float) -> tuple[ShardRecord, None, bool]:
            return replace(leases.give_back(record, now), progress=None), None, True

        await self._guarded(lease, step, ends=True)

    async def postpone(self, lease: Lease, waiting_for: str, pause: float) -> None:
        """Give the shard back because what it needs is taken; the attempt does not count. Due in ``pause`` seconds.

        Raises LeaseLost.
        """

        def step(record: ShardRecord, now: float) -> tuple[ShardRecord, None, bool]:
            return replace(leases.postpone(record, waiting_for, now, pause), progress=None), None, True

        await self._guarded(lease, step, ends=True)

    async def fail(self, lease: Lease, error: str, max_attempts: int) -> bool:
        """Record that the attempt failed. True if it was the last one. Raises LeaseLost."""

        def step(record: ShardRecord, now: float) -> tuple[ShardRecord, bool, bool]:
            failed = replace(leases.fail(record, error, now, max_attempts), progress=None)
            return failed, failed.status is WorkStatus.FAILED, True

        return await self._guarded(lease, step, ends=True)

    async def reopen(self, job_id: str, indices: Sequence[int]) -> None:
        """Let shards be collected again although they are done, because their files are gone."""
        names = ["state", "run", *(shard_field(index) for index in indices)]

        def decide(fields: Fields, _now: float) -> Change[None]:
            if JobState(str(fields["state"])) is not JobState.COLLECTING:
                return Change(None)
            records = {name: ShardRecord.load(fields[name]) for name in names[2:]}
            done = [name for name, record in records.items() if record.status is WorkStatus.DONE]
            return Change(None, dict.fromkeys(done, ShardRecord(run=run_of(fields)).dump()))

        await self._hash.update(job_id, names, decide)

    async def claim_due(
        self, job_id: str, indices: list[int], patience: float, queue_is_short: bool, max_attempts: int
    ) -> list[int]:
        """The shards of ``indices`` for which the caller, and nobody else, must send a message now.

        They are due again in ``patience`` seconds. A shard whose holder vanished ``max_attempts`` times fails instead.
        """
        names = ["state", "run", *(shard_field(index) for index in indices)]

        def decide(fields: Fields, now: float) -> Change[list[int]]:
            if JobState(str(fields["state"])) not in COLLECT_STATES:
                return Change([])
            claimed, new = [], {}
            for index in indices:
                record = ShardRecord.load(fields[shard_field(index)]).in_run(run_of(fields))
                if not record.is_due(now, queue_is_short):
                    continue
                new[shard_field(index)] = _claim(record, now, patience, max_attempts).dump()
                if record.attempts < max_attempts:
                    claimed.append(index)
            return Change(claimed, new)

        return await self._hash.update(job_id, names, decide)

    async def _guarded(
        self, lease: Lease, step: Callable[[ShardRecord, float], tuple[ShardRecord, T, bool]], *, ends: bool = False
    ) -> T:
        assert lease.shard is not None
        if ends:
            lease.ending.set()
        field = shard_field(lease.shard)
        what = f"shard {lease.shard} of job {lease.job_id}"

        def decide(fields: Fields, now: float) -> Change[T]:
            if JobState(str(fields["state"])) not in COLLECT_STATES:
                raise LeaseLost(f"The lease on {what} was lost: the job is {fields['state']}.")
            record = ShardRecord.load(fields[field]).in_run(run_of(fields))
            leases.check_token(record, lease.token, what)
            new, result, visible = step(record, now)
            return Change(result, {field: new.dump()}, visible=visible)

        return await self._hash.update(lease.job_id, ["state", "run", field], decide)


def _claim(record: ShardRecord, now: float, patience: float, max_attempts: int) -> ShardRecord:
    if record.status is WorkStatus.LEASED:
        error = f"The worker {record.owner} stopped answering."
        record = replace(record, error=error, error_at=now, progress=None)
    if record.attempts >= max_attempts:
        return leases.fail(record, record.error or "It failed.", now, max_attempts)
    return leases.mark_queued(record, now + patience)
