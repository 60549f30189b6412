"""Job records: create, read, list, and move through the states. Guarded writes make duplicates and races harmless."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from redis.asyncio import Redis

from shared.compatibility import reading
from shared.contracts import JobState, JobStatus, Outcome, RoundReport, StoredSpec
from shared.errors import Conflict, Damaged, NotFound
from shared.state.connection import open_async_redis
from shared.state.feed import ChangeFeed
from shared.state.records import (
    JobInfo,
    ShardRecord,
    ShardResult,
    Snapshot,
    TrainingRecord,
    WorkStatus,
    check_transition,
    past,
    read_snapshot,
    replace,
    run_of,
    shards_of_round,
)
from shared.state.redis_hash import Change, Clock, Fields, JobHash, JobIndex
from shared.state.shards import ShardLeases, shard_field
from shared.state.status import to_status
from shared.state.trainings import TrainingLeases

CANCELLED = "Cancelled by request."


class JobStore:
    """All job state. In tests ``clock`` (seconds since the epoch) replaces the Redis server's time."""

    def __init__(self, redis: Redis, *, clock: Clock | None = None) -> None:
        self._hash = JobHash(redis, clock)
        self._index = JobIndex(redis)
        self.shards = ShardLeases(self._hash)
        self.trainings = TrainingLeases(self._hash)
        self.feed = ChangeFeed(redis)

    @classmethod
    def from_url(cls, url: str, *, clock: Clock | None = None) -> JobStore:
        """A store with its own connection pool. Calls fail after 5 s without an answer."""
        # Connections of the pool die with Redis: a call that finds one dead gets a new one at once.
        return cls(open_async_redis(url, 5.0, again=True, health_check_interval=30), clock=clock)

    async def aclose(self) -> None:
        await self.feed.stop()
        await self._hash.redis.aclose()

    async def ping(self) -> None:
        """Raises RedisError unless Redis takes writes."""
        await self._index.try_to_write()

    async def set_aside(self, job_id: str) -> None:
        """Make room for a new record in place of a damaged one."""
        await self._hash.set_aside(job_id)

    async def create(self, stored: StoredSpec, rebuilt: Rebuilt | None = None, trace: str | None = None) -> bool:
        """Make the record of a job whose spec is durable. False if it exists.

        ``rebuilt``: what the artifact store knows about the job. ``trace``: the traceparent that its work belongs to.
        """
        created = stored.created_at.timestamp()

        def decide(fields: Fields, now: float) -> Change[bool]:
            if fields["spec"] is not None:
                return Change(False)
            new = _first_fields(stored, created, rebuilt)
            if rebuilt is not None:
                # Versions must not restart at 1: an old ETag could match a new state.
                new["version"] = str(int(now))
            if trace is not None:
                new["trace"] = trace
            return Change(True, new, active=True)

        made = await self._hash.update(stored.job_id, ["spec"], decide, must_exist=False)
        await self._index.add(stored.job_id, created)
        return made

    async def snapshot(self, job_id: str) -> Snapshot:
        """Everything about a job at one version. Raises NotFound, and Damaged or NewerSchema if it cannot be read."""
        fields, now = await self._hash.read_all(job_id)
        if not fields:
            raise NotFound(f"There is no job {job_id}: list the known ones with GET /v1/jobs.")
        return read_snapshot(job_id, fields, now)

    async def get(self, job_id: str) -> JobStatus:
        """As ``snapshot`` raises."""
        return to_status(await self.snapshot(job_id))

    async def state_and_run(self, job_id: str) -> tuple[JobState, int]:
        """Where the job is, and how often it was retried: cheap for a job of any size. Raises NotFound, Damaged."""
        fields, _ = await self._hash.read(job_id, ["spec", "state", "run"])
        if fields["spec"] is None:
            raise NotFound(f"There is no job {job_id}: list the known ones with GET /v1/jobs.")
        with reading(f"The record of job {job_id} in Redis"):
            return JobState(str(fields["state"])), run_of(fields)

    async def version(self, job_id: str) -> int:
        """The version alone, a cheap check for changes. Raises NotFound."""
        fields, _ = await self._hash.read(job_id, ["version"])
        if fields["version"] is None:
            raise NotFound(f"There is no job {job_id}: list the known ones with GET /v1/jobs.")
        with reading(f"The version of job {job_id} in Redis"):
            return int(fields["version"])

    async def page(self, cursor: str | None = None, limit: int = 50) -> tuple[list[str], str | None]:
        """Ids, newest first, and the cursor of the next page. Not every id has a record that can be read."""
        return await self._index.page(cursor, limit)

    async def active(self) -> list[str]:
        """The jobs that the reconciler still has to move on."""
        return await self._index.active()

    async def known(self) -> set[str]:
        return await self._index.known()

    async def list_without_record(self, job_id: str, created: float) -> None:
        """Let the lists show a job whose record is lost and cannot be rebuilt, and the reconciler try again."""
        await self._index.add(job_id, created)
        await self._index.activate(job_id)

    async def reactivate(self, job_id: str) -> bool:
        """Let the reconciler look at the job again, unless it is over and reported. Whether it does.

        For jobs that are missing from the active ones, which only a damaged Redis brings about.
        """
        try:
            fields, _ = await self._hash.read(job_id, ["state", "info"])
            with reading(job_id):
                if JobState(str(fields["state"])).is_final and JobInfo.load(fields["info"]).reported:
                    return False
        except Damaged:
            pass  # the reconciler finds out how
        await self._index.activate(job_id)
        return True

    async def wait_for_change(self, job_id: str, version: int, timeout: float) -> int:
        """The job's version as soon as it is not ``version``, or after ``timeout`` seconds. Raises NotFound."""
        return await self.feed.wait(job_id, version, timeout, lambda: self.version(job_id))

    async def transition(self, job_id: str, current: JobState, to: JobState, **changes: Any) -> bool:
        """Move a job from ``current`` to ``to`` and set fields of its info. False if it is no longer in ``current``.

        Exactly one of several callers gets True. Raises Conflict for a transition that is never legal.
        """
        check_transition(job_id, current, to)

        def decide(fields: Fields, now: float) -> Change[bool]:
            if fields["state"] != current:
                return Change(False)
            info = replace(JobInfo.load(fields["info"]).entered(to, now), **changes)
            return Change(True, {"state": to, "info": info.dump()})

        return await self._hash.update(job_id, ["state", "info"], decide)

    async def fail(self, job_id: str, error: str) -> bool:
        """Fail an unfinished job with an error message. False if it is already final."""

        def decide(fields: Fields, now: float) -> Change[bool]:
            if JobState(str(fields["state"])).is_final:
                return Change(False)
            info = replace(JobInfo.load(fields["info"]).entered(JobState.FAILED, now), last_error=error, reason=error)
            return Change(True, {"state": JobState.FAILED, "info": info.dump()})

        return await self._hash.update(job_id, ["state", "info"], decide)

    async def finish(self, job_id: str, current: JobState, outcome: Outcome, reason: str) -> bool:
        """Succeed without a training lease (no gap). False if the job is no longer in ``current``."""
        return await self.transition(job_id, current, JobState.SUCCEEDED, outcome=str(outcome), reason=reason)

    async def cancel(self, job_id: str) -> None:
        """Cancel: work in progress loses its lease, because every write of it looks at the job's state first.

        Raises Conflict for a job that is final or being promoted.
        """

        def decide(fields: Fields, now: float) -> Change[None]:
            if not check_cancel(job_id, JobState(str(fields["state"]))):
                return Change(None)
            info = JobInfo.load(fields["info"]).entered(JobState.CANCELLED, now)
            new = {"state": str(JobState.CANCELLED), "info": replace(info, reason=CANCELLED).dump()}
            return Change(None, new | {"training": _idle(TrainingRecord.load(fields["training"])).dump()})

        await self._hash.update(job_id, ["state", "info", "training"], decide)

    async def retry(
        self, job_id: str, run: int | None = None, again: Collection[int] = (), seen: Snapshot | None = None
    ) -> None:
        """Restart a failed or cancelled job in the round it was in, with its finished shards.

        ``run``: the number of the run that begins; default: the next one. Nothing happens if the job has reached it.
        ``again``: finished shards that are due once more; then the job may also have succeeded. ``seen``: the job as
        it was read after it had ended, if it was: its shards do not change until it is retried. Raises Conflict for a
        job in any other state.
        """
        snapshot = seen or await self.snapshot(job_id)
        finished = {index: shard.result for index, shard in snapshot.shards.items() if shard.result is not None}
        done = {index: result for index, result in finished.items() if index not in again}
        here = shards_of_round(snapshot.info.round, snapshot.stored.shards)
        images = sum(result.images for index, result in done.items() if index in here)
        to = JobState.COLLECTING if finished else JobState.QUEUED
        due = [shard_field(index) for index in again]

        def decide(fields: Fields, now: float) -> Change[None]:
            if run is not None and run_of(fields) >= run:
                return Change(None)
            check_retry(job_id, JobState(str(fields["state"])), succeeded=bool(again))
            before, number = JobInfo.load(fields["info"]), run_of(fields) + 1 if run is None else run
            kept = JobInfo(history=before.history, base_images=images, round=before.round, rounds=before.rounds)
            info = kept.entered(to, now)
            new = {"state": str(to), "info": info.dump(), "run": str(number), "training": "{}"}
            new |= dict.fromkeys(due, ShardRecord(run=number).dump())
            return Change(None, new, active=True)

        await self._hash.update(job_id, ["state", "info", "run", "training", *due], decide)

    async def mark_reported(self, job_id: str) -> bool:
        """The report of a final job is stored, so the reconciler may forget the job. True for the first caller."""

        def decide(fields: Fields, _now: float) -> Change[bool]:
            if not JobState(str(fields["state"])).is_final:
                return Change(False)
            info = JobInfo.load(fields["info"])
            return Change(not info.reported, {"info": replace(info, reported=True).dump()}, visible=False, active=False)

        return await self._hash.update(job_id, ["state", "info"], decide)


class Rebuilt:
    """What the artifact store knows about a job without a record: finished shards and rounds, or its final status.

    ``run``: how often it was retried. ``cancelled``: whether it was cancelled after that.
    """

    def __init__(
        self,
        shards: dict[int, ShardResult],
        final: JobStatus | None = None,
        rounds: Sequence[RoundReport] = (),
        *,
        run: int = 0,
        cancelled: datetime | None = None,
    ) -> None:
        self.shards = shards
        self.final = final
        self.rounds = tuple(rounds)
        self.run = run
        self.cancelled = cancelled

    @property
    def round(self) -> int:
        """The round that the job was in: the last one that is over, or the next one if it goes on."""
        if not self.rounds:
            return 1
        return self.rounds[-1].round + self.rounds[-1].goes_on


def _first_fields(stored: StoredSpec, created: float, rebuilt: Rebuilt | None) -> dict[str, str]:
    info, state = JobInfo(history=((str(JobState.QUEUED), created),)), JobState.QUEUED
    new: dict[str, str] = {}
    if rebuilt is not None:
        done = ShardRecord(status=WorkStatus.DONE)
        new = {shard_field(i): replace(done, result=result).dump() for i, result in rebuilt.shards.items()}
        rounds = past(rebuilt.rounds)
        if rebuilt.final is not None:
            state, info = rebuilt.final.state, replace(_info_of(rebuilt.final, created), rounds=rounds)
        elif rebuilt.shards:
            state = JobState.COLLECTING
            here = shards_of_round(rebuilt.round, stored.shards)
            images = sum(result.images for index, result in rebuilt.shards.items() if index in here)
            info = replace(info.entered(state, created), base_images=images, round=rebuilt.round, rounds=rounds)
        if rebuilt.final is None and rebuilt.cancelled is not None:
            state = JobState.CANCELLED
            info = replace(info.entered(state, rebuilt.cancelled.timestamp()), reason=CANCELLED)
        new["run"] = str(rebuilt.run)
    fields = {"spec": stored.model_dump_json(), "state": str(state), "info": info.dump(), "updated": repr(created)}
    return new | fields | {"training": TrainingRecord().dump(), "version": "0"}


def _info_of(final: JobStatus, created: float) -> JobInfo:
    finished = (final.finished_at or final.updated_at).timestamp()
    return JobInfo(
        history=((str(JobState.QUEUED), created), (str(final.state), finished)),
        outcome=str(final.outcome) if final.outcome else None,
        reason=final.reason,
        last_error=final.last_error,
        evaluation=final.evaluation.model_dump(mode="json") if final.evaluation else None,
        checkpoint=final.checkpoint,
        checkpoint_url=final.checkpoint_url,
        round=final.round,
    )


def check_cancel(job_id: str, state: JobState) -> bool:
    """Whether there is something to cancel: False if the job is cancelled already. Raises Conflict."""
    if state is JobState.PROMOTING:
        raise Conflict(f"Job {job_id} is being promoted: let it finish, then roll the student back.")
    if state.is_final and state is not JobState.CANCELLED:
        raise Conflict(f"Job {job_id} has already {state}: there is nothing to cancel.")
    return state is not JobState.CANCELLED


def check_retry(job_id: str, state: JobState, *, succeeded: bool = False) -> None:
    """Raises Conflict unless the job may be retried. ``succeeded``: also if it succeeded."""
    if state not in (JobState.FAILED, JobState.CANCELLED) and not (succeeded and state is JobState.SUCCEEDED):
        raise Conflict(f"Job {job_id} is {state}: only failed or cancelled jobs can be retried.")


def _idle(training: TrainingRecord) -> TrainingRecord:
    """The record without its holder."""
    if training.status is not WorkStatus.LEASED:
        return training
    return replace(training, status=WorkStatus.PENDING, token="", owner="", waiting_for=None)
