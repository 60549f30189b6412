"""Makes the status that a user sees from a snapshot. All counts are sums over the shard records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

from shared.contracts import (
    Distribution,
    Evaluation,
    JobState,
    JobStatus,
    Outcome,
    RoundReport,
    StageCount,
    TokenCount,
    TrainingProgress,
    Verdict,
)
from shared.discrepancies import merged
from shared.job_warnings import PairCounts, warnings_of
from shared.state.records import (
    COLLECT_STATES,
    TRAIN_STATES,
    ShardRecord,
    ShardResult,
    Snapshot,
    WorkStatus,
)

WORKER_PATIENCE = 10.0
ZERO = ShardResult()


def to_status(snapshot: Snapshot) -> JobStatus:
    """The job's status as of the snapshot."""
    stored, info, shards = snapshot.stored, snapshot.info, snapshot.round_shards().values()
    counts = [_count(shard) for shard in snapshot.shards.values()]
    done = sum(_count(shard).images for shard in shards)
    rate = _rate(snapshot, done)
    finished = snapshot.info.history[-1][1] if snapshot.state.is_final else None
    verdicts = _verdicts(snapshot)
    return JobStatus(
        id=stored.job_id,
        name=stored.spec.name,
        state=snapshot.state,
        outcome=Outcome(info.outcome) if info.outcome else None,
        reason=info.reason,
        created_at=stored.created_at,
        updated_at=_time(snapshot.updated),
        finished_at=None if finished is None else _time(finished),
        student=stored.spec.student,
        tasks=sorted(set(stored.spec.tasks).union(*(source.tasks or () for source in stored.spec.images))),
        images=StageCount(done=done, total=stored.images),
        left_out=stored.left_out,
        image_notes=_notes(_count(shard) for shard in shards),
        shards=StageCount(done=sum(s.status is WorkStatus.DONE for s in shards), total=stored.shards),
        pairs=sum(verdicts.values()),
        verdicts=verdicts,
        causes=_causes(snapshot),
        rate_images_per_second=rate,
        eta_seconds=_eta(snapshot, done, rate),
        teacher_tokens=TokenCount(
            prompt=sum(count.prompt_tokens for count in counts),
            completion=sum(count.completion_tokens for count in counts),
            saved=sum(count.saved_tokens for count in counts),
        ),
        discrepancies={
            name: Distribution(count=one.count, mean=round(one.mean or 0.0, 4), tenths=list(one.bins))
            for name, one in merged(count.gaps for count in counts).items()
        },
        training=_training_progress(snapshot),
        evaluation=Evaluation.model_validate(info.evaluation, extra="ignore") if info.evaluation else None,
        checkpoint=info.checkpoint,
        checkpoint_url=info.checkpoint_url,
        last_error=info.last_error or _latest_error(snapshot),
        waiting_for=_waiting_for(snapshot),
        round=info.round,
        rounds=stored.spec.rounds.max,
        warnings=warnings_of(pair_counts(snapshot)),
        past_rounds=[RoundReport.model_validate(report, extra="ignore") for report in info.rounds],
        version=snapshot.version,
    )


def pair_counts(snapshot: Snapshot) -> PairCounts:
    """What the warnings follow from: verdicts of all rounds, and the disparity pairs of the current one."""
    stored, info = snapshot.stored, snapshot.info
    evaluation = Evaluation.model_validate(info.evaluation, extra="ignore") if info.evaluation else None
    return PairCounts(
        job_id=stored.job_id,
        verdicts=_verdicts(snapshot),
        causes=_causes(snapshot),
        collected=shards_done(snapshot),
        to_train=train_disparities(snapshot),
        batch_size=stored.spec.train.batch_size,
        held_out=None if evaluation is None else evaluation.overall.questions,
    )


def seconds_by_state(snapshot: Snapshot) -> dict[str, float]:
    """Seconds spent in each state so far, over all runs of a retried job."""
    history = snapshot.info.history
    ends = [at for _, at in history[1:]] + [snapshot.now]
    seconds: dict[str, float] = {}
    for (name, since), end in zip(history, ends, strict=True):
        if not JobState(name).is_final:
            seconds[name] = round(seconds.get(name, 0.0) + max(0.0, end - since), 3)
    return seconds


def _verdicts(snapshot: Snapshot) -> dict[Verdict, int]:
    counts = [_count(shard) for shard in snapshot.shards.values()]
    found: Counter[str] = Counter()
    for count in counts:
        for name, pairs in count.verdicts.items():
            found[name] += pairs
    return {verdict: found[verdict] for verdict in Verdict}


def _causes(snapshot: Snapshot) -> dict[str, int]:
    """Pairs by cause, the most frequent first."""
    found: Counter[str] = Counter()
    for shard in snapshot.shards.values():
        found.update(_count(shard).causes)
    return dict(found.most_common())


def train_disparities(snapshot: Snapshot) -> int:
    """How many disparity pairs of the current round may be trained on."""
    return sum(shard.result.train_disparity for shard in snapshot.round_shards().values() if shard.result)


def shards_done(snapshot: Snapshot) -> bool:
    """Whether all shards of the current round are done."""
    return all(shard.status is WorkStatus.DONE for shard in snapshot.round_shards().values())


def _count(shard: ShardRecord) -> ShardResult:
    return shard.result or shard.progress or ZERO


def _notes(counts: Iterable[ShardResult]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for count in counts:
        found.update(count.notes)
    return dict(sorted(found.items()))


def _rate(snapshot: Snapshot, done: int) -> float | None:
    since = snapshot.info.since(JobState.COLLECTING)
    if since is None:
        return None
    until = next((at for _, at in snapshot.info.history if at > since), snapshot.now)
    fresh = done - snapshot.info.base_images
    return round(fresh / (until - since), 3) if fresh > 0 and until > since else None


def _eta(snapshot: Snapshot, done: int, rate: float | None) -> float | None:
    if snapshot.state in COLLECT_STATES:
        return round((snapshot.stored.images - done) / rate, 1) if rate else None
    if snapshot.state is JobState.TRAINING and snapshot.training.progress:
        return TrainingProgress.model_validate(snapshot.training.progress, extra="ignore").eta_seconds
    return None


def _training_progress(snapshot: Snapshot) -> TrainingProgress | None:
    progress = snapshot.training.progress
    return TrainingProgress.model_validate(progress, extra="ignore") if progress else None


def _latest_error(snapshot: Snapshot) -> str | None:
    failed = [work for work in (*snapshot.shards.values(), snapshot.training) if work.error]
    return max(failed, key=lambda work: work.error_at).error if failed else None


def _waiting_for(snapshot: Snapshot) -> str | None:
    now = snapshot.now
    if snapshot.state in COLLECT_STATES:
        held = [shard for shard in snapshot.shards.values() if shard.held(now)]
        postponed = [shard for shard in snapshot.shards.values() if shard.status is WorkStatus.PENDING]
        waiting = next((shard.waiting_for for shard in (*held, *postponed) if shard.waiting_for), None)
        return waiting or (None if held else _for_a_worker(snapshot))
    if snapshot.state in TRAIN_STATES:
        if snapshot.training.held(now):
            return snapshot.training.waiting_for
        since = snapshot.info.history[-1][1]
        return "a free trainer: is the trainer service running?" if now - since > WORKER_PATIENCE else None
    return None


def _for_a_worker(snapshot: Snapshot) -> str | None:
    idle = not shards_done(snapshot) and snapshot.now - snapshot.updated > WORKER_PATIENCE
    return "a free parity worker: is `python -m services.parity.worker` running?" if idle else None


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
