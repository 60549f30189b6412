"""The lease on a job's training, and the transitions that only its holder may make."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Sequence

from shared.compatibility import read_stored
from shared.contracts import Evaluation, JobState, Outcome, RoundReport, StoredSpec, TrainingProgress
from shared.errors import LeaseLost
from shared.state import leases
from shared.state.records import (
    TRAIN_STATES,
    JobInfo,
    Lease,
    TrainingRecord,
    WorkStatus,
    check_transition,
    is_past,
    past,
    replace,
)
from shared.state.redis_hash import Change, Fields, JobHash

_Step = Callable[[TrainingRecord, JobState, JobInfo, float], "_Next"]


class _Next:
    """The records after a guarded step. ``visible``: whether the job's version grows."""

    def __init__(self, training: TrainingRecord, state: JobState, info: JobInfo, *, visible: bool = True) -> None:
        self.training, self.state, self.info, self.visible = training, state, info, visible


class TrainingLeases:
    """Like ShardLeases, for the one training of a job. A resumed run may repeat steps, which then do nothing."""

    def __init__(self, job_hash: JobHash) -> None:
        self._hash = job_hash

    async def acquire(self, job_id: str, owner: str, ttl: float, max_attempts: int) -> Lease | None:
        """Take the training. None if it is done, held or out of attempts, or if the job is not in training.

        Raises NotFound for an unknown job, NewerSchema for one that this release must not work on.
        """
        token = secrets.token_hex(8)

        def decide(fields: Fields, now: float) -> Change[Lease | None]:
            read_stored(StoredSpec, str(fields["spec"]), f"Job {job_id}")
            record = TrainingRecord.load(fields["training"])
            in_training = JobState(str(fields["state"])) in TRAIN_STATES
            if not in_training or not record.is_free(now) or record.attempts >= max_attempts:
                return Change(None)
            taken = leases.take(record, owner, token, now + ttl)
            lease = Lease(job_id, None, owner, token, now + ttl, taken.attempts)
            return Change(lease, {"training": taken.dump()})

        return await self._hash.update(job_id, ["state", "training"], decide)

    async def heartbeat(
        self, lease: Lease, ttl: float, progress: TrainingProgress | None = None, waiting_for: str | None = None
    ) -> Lease:
        """Renew. ``progress`` None keeps the last one. Raises LeaseLost, also after a cancel."""

        def step(training: TrainingRecord, state: JobState, info: JobInfo, now: float) -> _Next:
            shown = progress.model_dump(mode="json") if progress is not None else training.progress
            visible = (training.progress, training.waiting_for) != (shown, waiting_for)
            new = replace(training, expires=now + ttl, progress=shown, waiting_for=waiting_for)
            return _Next(new, state, info, visible=visible)

        await self._guarded(lease, step)
        return dataclasses.replace(lease, expires=(await self._hash.now()) + ttl)

    async def advance(
        self,
        lease: Lease,
        to: JobState,
        *,
        evaluation: Evaluation | None = None,
        checkpoint: str | None = None,
        checkpoint_url: str | None = None,
        rounds: Sequence[RoundReport] | None = None,
    ) -> None:
        """Move the job to ``evaluating`` or ``promoting`` and record what is known. Raises LeaseLost, Conflict."""

        def step(training: TrainingRecord, state: JobState, info: JobInfo, now: float) -> _Next:
            info = _noted(info, evaluation, checkpoint, checkpoint_url, rounds)
            if is_past(state, to):
                return _Next(training, state, info)
            check_transition(lease.job_id, state, to)
            return _Next(training, to, info.entered(to, now))

        await self._guarded(lease, step)

    async def next_round(self, lease: Lease, rounds: Sequence[RoundReport]) -> None:
        """Go back to ``collecting`` for the round after ``rounds``, which are published. Ends the lease.

        The next training has all its attempts again. Raises LeaseLost, Conflict.
        """

        def step(_training: TrainingRecord, state: JobState, info: JobInfo, now: float) -> _Next:
            check_transition(lease.job_id, state, JobState.COLLECTING)
            info = replace(_noted(info, rounds=rounds), round=len(rounds) + 1, base_images=0, last_error=None)
            return _Next(TrainingRecord(), JobState.COLLECTING, info.entered(JobState.COLLECTING, now))

        await self._guarded(lease, step, ends=True)

    async def finish(
        self,
        lease: Lease,
        outcome: Outcome,
        reason: str,
        *,
        evaluation: Evaluation | None = None,
        checkpoint: str | None = None,
        checkpoint_url: str | None = None,
        rounds: Sequence[RoundReport] | None = None,
    ) -> None:
        """Succeed with ``outcome``. Raises LeaseLost, and Conflict if the job never reached ``evaluating``."""

        def step(training: TrainingRecord, state: JobState, info: JobInfo, now: float) -> _Next:
            check_transition(lease.job_id, state, JobState.SUCCEEDED)
            info = _noted(info, evaluation, checkpoint, checkpoint_url, rounds)
            info = replace(info.entered(JobState.SUCCEEDED, now), outcome=str(outcome), reason=reason)
            return _Next(leases.finish(training), JobState.SUCCEEDED, info)

        await self._guarded(lease, step, ends=True)

    async def release(self, lease: Lease) -> None:
        """Give the training back because the trainer is stopping; the attempt does not count. Raises LeaseLost."""

        def step(training: TrainingRecord, state: JobState, info: JobInfo, now: float) -> _Next:
            return _Next(leases.give_back(training, now), state, info)

        await self._guarded(lease, step, ends=True)

    async def fail(self, lease: Lease, error: str, max_attempts: int) -> bool:
        """Record that the attempt failed. The last one fails the job and returns True. Raises LeaseLost."""
        given_up = lease.attempt >= max_attempts

        def step(training: TrainingRecord, state: JobState, info: JobInfo, now: float) -> _Next:
            failed = leases.fail(training, error, now, max_attempts)
            info = replace(info, last_error=error)
            if not given_up:
                return _Next(failed, state, info)
            return _Next(failed, JobState.FAILED, replace(info.entered(JobState.FAILED, now), reason=error))

        await self._guarded(lease, step, ends=True)
        return given_up

    async def claim_due(self, job_id: str, patience: float, queue_is_short: bool, max_attempts: int) -> bool:
        """Whether the caller, and nobody else, must send the training's message now.

        A training whose holder vanished ``max_attempts`` times fails the job instead.
        """

        def decide(fields: Fields, now: float) -> Change[bool]:
            record, state = TrainingRecord.load(fields["training"]), JobState(str(fields["state"]))
            if state not in TRAIN_STATES or not record.is_due(now, queue_is_short):
                return Change(False)
            if record.status is WorkStatus.LEASED:
                record = replace(record, error=f"The trainer {record.owner} stopped answering.", error_at=now)
            if record.attempts < max_attempts:
                return Change(True, {"training": leases.mark_queued(record, now + patience).dump()})
            error = f"The training failed {record.attempts} times. {record.error or ''}".strip()
            info = replace(JobInfo.load(fields["info"]).entered(JobState.FAILED, now), last_error=error, reason=error)
            failed = leases.fail(record, error, now, max_attempts)
            return Change(False, {"training": failed.dump(), "state": str(JobState.FAILED), "info": info.dump()})

        return await self._hash.update(job_id, ["state", "info", "training"], decide)

    async def _guarded(self, lease: Lease, step: _Step, *, ends: bool = False) -> None:
        if ends:
            lease.ending.set()
        what = f"the training of job {lease.job_id}"

        def decide(fields: Fields, now: float) -> Change[None]:
            state = JobState(str(fields["state"]))
            if state not in TRAIN_STATES:
                raise LeaseLost(f"The lease on {what} was lost: the job is {state}.")
            record = TrainingRecord.load(fields["training"])
            leases.check_token(record, lease.token, what)
            after = step(record, state, JobInfo.load(fields["info"]), now)
            new = {"training": after.training.dump(), "state": str(after.state), "info": after.info.dump()}
            return Change(None, new, visible=after.visible)

        await self._hash.update(lease.job_id, ["state", "info", "training"], decide)


def _noted(
    info: JobInfo,
    evaluation: Evaluation | None = None,
    checkpoint: str | None = None,
    url: str | None = None,
    rounds: Sequence[RoundReport] | None = None,
) -> JobInfo:
    return replace(
        info,
        rounds=info.rounds if rounds is None else past(rounds),
        evaluation=evaluation.model_dump(mode="json") if evaluation else info.evaluation,
        checkpoint=checkpoint or info.checkpoint,
        checkpoint_url=url or info.checkpoint_url,
    )
