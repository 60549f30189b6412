"""The records of a running job, and which state may follow which.

A job is one Redis hash. Its fields are the JSON of these records, so a record is also the unit of compare-and-set: a
writer names the bytes that it read. Counters are never stored: they are sums over the shard records.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache, lru_cache
from typing import Annotated, Any, Self, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field

from shared.compatibility import check_schema, read_shown, reading
from shared.contracts import (
    Evaluation,
    Finite,
    JobState,
    Outcome,
    RoundReport,
    StoredSpec,
    TrainingProgress,
    finite,
)
from shared.discrepancies import Histogram
from shared.errors import Conflict, Damaged

YEAR_10000 = 253_402_300_800
LONGEST_WAIT = 366 * 86_400
KEPT_SHARDS = 20_000
MOST_ROUNDS = 1000
"""More than any spec may ask for."""

_WORKING = {JobState.FAILED, JobState.CANCELLED}
LEGAL: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.COLLECTING, *_WORKING}),
    JobState.COLLECTING: frozenset({JobState.TRAINING, JobState.SUCCEEDED, *_WORKING}),
    JobState.TRAINING: frozenset({JobState.EVALUATING, *_WORKING}),
    # Back to collecting: the next round.
    JobState.EVALUATING: frozenset({JobState.COLLECTING, JobState.PROMOTING, JobState.SUCCEEDED, *_WORKING}),
    JobState.PROMOTING: frozenset({JobState.SUCCEEDED, JobState.FAILED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset({JobState.QUEUED, JobState.COLLECTING}),
    JobState.CANCELLED: frozenset({JobState.QUEUED, JobState.COLLECTING}),
}
COLLECT_STATES = frozenset({JobState.QUEUED, JobState.COLLECTING})
TRAIN_STATES = frozenset({JobState.TRAINING, JobState.EVALUATING, JobState.PROMOTING})
_ORDER = list(JobState)
# Earlier releases wrote NaN and Infinity into them.
ContractFields = Annotated[dict[str, Any], BeforeValidator(finite)]


def check_transition(job_id: str, current: JobState, to: JobState) -> None:
    """Raises Conflict unless ``to`` may follow ``current``."""
    if to not in LEGAL[current]:
        raise Conflict(f"Job {job_id} is {current}: it cannot become {to}.")


def is_past(current: JobState, to: JobState) -> bool:
    """Whether a job in ``current`` has reached ``to`` already (a repeated step of a resumed run)."""
    return _ORDER.index(current) >= _ORDER.index(to)


class WorkStatus(StrEnum):
    PENDING = "pending"
    LEASED = "leased"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Lease:
    """The right to work on a shard (``shard`` None: the training) until ``expires``, seconds since the epoch.

    ``ending`` is set by the call that ends the lease; nobody renews it after that.
    """

    job_id: str
    shard: int | None
    owner: str
    token: str
    expires: float
    attempt: int
    ending: asyncio.Event = field(default_factory=asyncio.Event, compare=False, repr=False)


class Record(Finite):
    """Base of the records. Fields that a later release has written are kept as they are."""

    model_config = ConfigDict(frozen=True, extra="allow", ser_json_inf_nan="constants")

    @classmethod
    def load(cls, text: str | None) -> Self:
        """The record of a field of the hash; a new one if the field is missing. Raises ValueError."""
        return cls.model_validate_json(text or "{}")

    def dump(self) -> str:
        """JSON without default values: equal records are equal bytes."""
        defaults = _new(type(self)).__dict__
        return self.model_dump_json(exclude={name for name, value in self.__dict__.items() if value == defaults[name]})


R = TypeVar("R", bound=Record)


def replace(record: R, **changes: Any) -> R:
    """A copy of the record with other values. Raises TypeError for a field that it does not have."""
    unknown = changes.keys() - type(record).model_fields.keys()
    if unknown:
        raise TypeError(f"{type(record).__name__} has no field {', '.join(sorted(unknown))}")
    return record.model_copy(update=changes)


@cache
def _new(kind: type[R]) -> R:
    return kind()


class Work(Record):
    """A piece of leased work. ``queued``: its message should be in the broker. ``due``: when to send one.

    Times are in seconds since the epoch.
    """

    status: WorkStatus = WorkStatus.PENDING
    attempts: int = 0
    owner: str = ""
    token: str = ""
    expires: float = 0.0
    queued: bool = False
    due: float = 0.0
    error: str | None = None
    error_at: float = 0.0
    waiting_for: str | None = None

    def held(self, now: float) -> bool:
        """Whether somebody is working on it at ``now``."""
        return self.status is WorkStatus.LEASED and self.expires > now

    def is_free(self, now: float) -> bool:
        return self.status is WorkStatus.PENDING or (self.status is WorkStatus.LEASED and self.expires <= now)

    def is_due(self, now: float, queue_is_short: bool) -> bool:
        """Whether a message should be sent; for queued work only if the queue holds too few messages for all."""
        if self.status is WorkStatus.LEASED:
            return self.expires <= now
        return self.status is WorkStatus.PENDING and self.due <= now and (not self.queued or queue_is_short)


class ShardResult(Finite):
    """Sums over the rows of a shard. ``train_disparity``: disparity pairs outside the held-out images.

    ``causes``: pairs by contracts.Cause. ``gaps``: the discrepancies of its pairs by name. ``notes``: its images by
    their note.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    images: int = 0
    verdicts: dict[str, int] = Field(default_factory=dict)
    causes: dict[str, int] = Field(default_factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    saved_tokens: int = 0
    train_disparity: int = 0
    gaps: dict[str, Histogram] = Field(default_factory=dict)
    notes: dict[str, int] = Field(default_factory=dict)


class ShardRecord(Work):
    """``progress``: the live sums of a shard that is being collected. ``result``: the final ones.

    ``run``: the run of the job that wrote it. A retry begins the next run and touches no shard, so that it costs the
    same for a job of any size: what an earlier run left unfinished counts as untouched, see ``in_run``.
    """

    run: int = 0

    progress: ShardResult | None = None
    result: ShardResult | None = None

    def in_run(self, run: int) -> ShardRecord:
        """The record as a run of the job sees it: finished shards count in every run."""
        finished = self.status is WorkStatus.DONE and self.result is not None
        if finished or (self.run == run and self.status is not WorkStatus.DONE):
            return self
        return _untouched(run)


@cache
def _untouched(run: int) -> ShardRecord:
    """Made once, because a large job has many."""
    return ShardRecord(run=run)


class TrainingRecord(Work):
    """The training of a job; ``progress`` holds the fields of contracts.TrainingProgress."""

    progress: ContractFields | None = None


class JobInfo(Record):
    """The job as a whole. ``history``: (state, since). ``base_images``: images that were done before this run.

    ``round``: the current round. ``rounds``: the fields of contracts.RoundReport of the rounds that are over.
    """

    history: tuple[tuple[str, float], ...] = ()
    base_images: int = 0
    outcome: str | None = None
    reason: str | None = None
    last_error: str | None = None
    evaluation: ContractFields | None = None
    checkpoint: str | None = None
    checkpoint_url: str | None = None
    reported: bool = False
    round: int = 1
    rounds: tuple[ContractFields, ...] = ()

    def entered(self, state: JobState, now: float) -> JobInfo:
        return replace(self, history=(*self.history, (str(state), now)))

    def since(self, state: JobState) -> float | None:
        """When the job last entered ``state``."""
        return next((at for name, at in reversed(self.history) if name == state), None)


@dataclass(frozen=True)
class Snapshot:
    """All of a job at one version, as of ``now``. ``trace``: the traceparent that it was submitted with.

    ``run``: how often the job was retried.
    """

    stored: StoredSpec
    state: JobState
    info: JobInfo
    training: TrainingRecord
    shards: dict[int, ShardRecord]
    version: int
    updated: float
    now: float
    trace: str | None = None
    run: int = 0

    def shard(self, index: int) -> ShardRecord:
        return self.shards.get(index, _untouched(self.run))

    def round_shards(self) -> dict[int, ShardRecord]:
        """The shards of the current round by number, including those without a record."""
        return {index: self.shard(index) for index in shards_of_round(self.info.round, self.stored.shards)}


def read_snapshot(job_id: str, fields: Mapping[str, str], now: float) -> Snapshot:
    """What the hash of a job holds. Raises Damaged, or NewerSchema where a later release wrote the spec."""
    what = f"The record of job {job_id} in Redis"
    try:
        with reading(what):
            run = run_of(fields)
            found = Snapshot(
                stored=read_shown(StoredSpec, fields["spec"]),
                state=JobState(fields["state"]),
                info=JobInfo.load(fields.get("info")),
                training=TrainingRecord.load(fields.get("training")),
                shards={int(n[6:]): _read_shard(t).in_run(run) for n, t in fields.items() if n.startswith("shard:")},
                version=int(fields.get("version", 0)),
                updated=float(fields.get("updated", 0.0)),
                now=now,
                trace=fields.get("trace"),
                run=run,
            )
            _check(found, job_id)
    except Damaged:
        check_schema(_schema_of(fields.get("spec")), f"Job {job_id}")
        raise
    return found


@lru_cache(maxsize=KEPT_SHARDS)
def _read_shard(text: str) -> ShardRecord:
    """Most shards of a large job are as they were at the last look, and records never change."""
    return ShardRecord.load(text)


def run_of(fields: Mapping[str, str | None]) -> int:
    """How often a job was retried, by its field ``run``. Raises ValueError."""
    return int(fields.get("run") or 0)


def _check(found: Snapshot, job_id: str) -> None:
    """Raises ValueError for values that are well-formed, and that no release has written."""
    stored, info = found.stored, found.info
    if stored.job_id != job_id:
        raise ValueError(f"its spec is that of job {stored.job_id}")
    if stored.images < 0 or stored.shards != math.ceil(stored.images / stored.spec.shard_size):
        raise ValueError(f"{stored.images} images do not make {stored.shards} shards")
    if not info.history or not 1 <= info.round <= MOST_ROUNDS:
        raise ValueError("info has no history" if not info.history else f"info.round is {info.round}")
    for name, at in (*info.history, (str(found.state), found.updated)):
        JobState(name)
        if not 0 <= at < YEAR_10000:
            raise ValueError(f"{at} is not a time")
    latest = found.now + LONGEST_WAIT
    for work in (*found.shards.values(), found.training):
        if work.expires > latest or work.due > latest:
            raise ValueError("a lease or a message would not be due for a year")
    if info.outcome is not None:
        Outcome(info.outcome)
    for kind, value in ((Evaluation, info.evaluation), (TrainingProgress, found.training.progress)):
        if value:
            kind.model_validate(value, extra="ignore")
    for report in info.rounds:
        RoundReport.model_validate(report, extra="ignore")


def _schema_of(spec: str | None) -> int:
    try:
        number = json.loads(spec or "{}").get("schema_version", 1)
    except (ValueError, AttributeError, RecursionError):
        return 1
    return number if isinstance(number, int) else 1


def past(rounds: Iterable[RoundReport]) -> tuple[dict[str, Any], ...]:
    """Rounds for JobInfo. Their questions are left out, because every step of every shard reads this record."""
    return tuple(report.model_dump(mode="json", exclude={"failed_questions"}) for report in rounds)


def shards_of_round(round_: int, shards: int) -> range:
    """The numbers of a round's shards, of which there are ``shards`` a round."""
    return range((round_ - 1) * shards, round_ * shards)


def round_of_shard(shard: int, shards: int) -> int:
    """The round, from 1, that a shard number belongs to."""
    return shard // shards + 1
