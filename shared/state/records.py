"""What is known about a job while it runs: plain records, and which state may follow which.

A job is one Redis hash. Its fields are the JSON of these records, so a record is also the unit of compare-and-set: a
writer names the bytes it read. Counters are never stored: they are sums over the shard records.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

from shared.contracts import JobState, RoundReport, StoredSpec
from shared.discrepancies import Histogram
from shared.errors import Conflict

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


@dataclass(frozen=True)
class Work:
    """A piece of leased work. ``queued``: its message is believed to be in the broker; ``due``: when to send one."""

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
    unknown: dict[str, Any] = field(default_factory=dict)
    """Fields that a later release has written: kept as they are."""

    def held(self, now: float) -> bool:
        """Whether somebody works on it at ``now``."""
        return self.status is WorkStatus.LEASED and self.expires > now

    def is_free(self, now: float) -> bool:
        return self.status is WorkStatus.PENDING or (self.status is WorkStatus.LEASED and self.expires <= now)

    def is_due(self, now: float, queue_is_short: bool) -> bool:
        """Whether a message should be sent; for queued work only if the queue holds too few messages for all."""
        if self.status is WorkStatus.LEASED:
            return self.expires <= now
        return self.status is WorkStatus.PENDING and self.due <= now and (not self.queued or queue_is_short)


@dataclass(frozen=True)
class ShardResult:
    """What a shard yielded; sums over its rows. ``train_disparity``: disparity pairs outside the held-out images.

    ``gaps``: the discrepancies of its pairs by name.
    """

    images: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    saved_tokens: int = 0
    train_disparity: int = 0
    gaps: dict[str, Histogram] = field(default_factory=dict)


@dataclass(frozen=True)
class ShardRecord(Work):
    """``progress`` is the live count of a shard in work; ``result`` the final one."""

    progress: ShardResult | None = None
    result: ShardResult | None = None


@dataclass(frozen=True)
class TrainingRecord(Work):
    """The training of a job; ``progress`` holds the fields of contracts.TrainingProgress."""

    progress: dict[str, Any] | None = None


@dataclass(frozen=True)
class JobInfo:
    """What happened to the job as a whole. ``history``: (state, since); ``base_images``: done before this run.

    ``round`` is the present one; ``rounds`` holds the fields of contracts.RoundReport of those that are over.
    """

    history: tuple[tuple[str, float], ...] = ()
    base_images: int = 0
    outcome: str | None = None
    reason: str | None = None
    last_error: str | None = None
    evaluation: dict[str, Any] | None = None
    checkpoint: str | None = None
    checkpoint_url: str | None = None
    reported: bool = False
    round: int = 1
    rounds: tuple[dict[str, Any], ...] = ()
    unknown: dict[str, Any] = field(default_factory=dict)

    def entered(self, state: JobState, now: float) -> JobInfo:
        return replace(self, history=(*self.history, (str(state), now)))

    def since(self, state: JobState) -> float | None:
        """When the job last entered ``state``."""
        return next((at for name, at in reversed(self.history) if name == state), None)


@dataclass(frozen=True)
class Snapshot:
    """All of a job at one version, as of ``now``. ``trace``: the traceparent that it was submitted with."""

    stored: StoredSpec
    state: JobState
    info: JobInfo
    training: TrainingRecord
    shards: dict[int, ShardRecord]
    version: int
    updated: float
    now: float
    trace: str | None = None

    def shard(self, index: int) -> ShardRecord:
        return self.shards.get(index, ShardRecord())

    def round_shards(self) -> dict[int, ShardRecord]:
        """The shards of the present round by number, those that nobody has touched too."""
        return {index: self.shard(index) for index in shards_of_round(self.info.round, self.stored.shards)}


def past(rounds: Iterable[RoundReport]) -> tuple[dict[str, Any], ...]:
    """Rounds for JobInfo, without what only the store has to know: the record is read at every step of every shard."""
    return tuple(report.model_dump(mode="json", exclude={"failed_questions"}) for report in rounds)


def shards_of_round(round_: int, shards: int) -> range:
    """The numbers of a round's shards, of which there are ``shards`` a round."""
    return range((round_ - 1) * shards, round_ * shards)


def round_of_shard(shard: int, shards: int) -> int:
    """The round, from 1, that a shard number belongs to."""
    return shard // shards + 1


def dump(record: Work | JobInfo) -> str:
    """Canonical JSON without default values: equal records are equal bytes."""
    return json.dumps(_without_defaults(record), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _without_defaults(record: Work | JobInfo) -> dict[str, Any]:
    empty = asdict(type(record)())
    known = {name: value for name, value in asdict(record).items() if value != empty[name]}
    kept: dict[str, Any] = known.pop("unknown", {})
    return kept | known


def load_shard(text: str | None) -> ShardRecord:
    raw = _load(text, ShardRecord)
    for name in ("progress", "result"):
        if raw.get(name) is not None:
            raw[name] = _shard_result(raw[name])
    return ShardRecord(**raw)


def _shard_result(raw: dict[str, Any]) -> ShardResult:
    gaps = {name: Histogram(tuple(one["bins"]), one["total"]) for name, one in raw.pop("gaps", {}).items()}
    known = {one.name for one in fields(ShardResult)}
    return ShardResult(**{name: value for name, value in raw.items() if name in known}, gaps=gaps)


def load_training(text: str | None) -> TrainingRecord:
    return TrainingRecord(**_load(text, TrainingRecord))


def load_info(text: str | None) -> JobInfo:
    raw = _split(text, JobInfo)
    raw["history"] = tuple((str(name), float(at)) for name, at in raw.get("history", ()))
    raw["rounds"] = tuple(raw.get("rounds", ()))
    return JobInfo(**raw)


def _split(text: str | None, kind: type[Work | JobInfo]) -> dict[str, Any]:
    """The arguments of a record; what this release does not know goes under ``unknown``."""
    raw: dict[str, Any] = json.loads(text) if text else {}
    known = {one.name for one in fields(kind)} - {"unknown"}
    newer = {name: raw.pop(name) for name in list(raw) if name not in known}
    return raw | {"unknown": newer}


def _load(text: str | None, kind: type[Work]) -> dict[str, Any]:
    raw = _split(text, kind)
    if "status" in raw:
        raw["status"] = WorkStatus(raw["status"])
    return raw
