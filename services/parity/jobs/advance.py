"""Moves a job on when its last shard is done. Several callers may notice that; exactly one of them moves it."""

from __future__ import annotations

import asyncio
import logging

from celery import Celery

from services.parity.endpoints.candidate_student import free_candidate
from services.parity.jobs.redo import read_redo
from shared.contracts import JobState, Outcome, Verdict
from shared.job_warnings import mostly_unusable
from shared.queue import enqueue_training
from shared.sets import missing_shards, set_digest
from shared.state import (
    JobStore,
    Snapshot,
    pair_counts,
    shards_done,
    shards_of_round,
    to_status,
    train_disparities,
)
from shared.store import Store

log = logging.getLogger(__name__)

NOTHING_NEW = "The pairs that were made again changed nothing."


async def settle(
    jobs: JobStore, store: Store, celery: Celery, job_id: str, patience: float, train_attempts: int
) -> None:
    """Move to ``training``, or to ``succeeded`` with ``no_gap`` if there is nothing to train on.

    Finished shards whose files are gone are collected again first. A later round always goes to the trainer, which
    knows the candidates of the earlier rounds.
    """
    snapshot = await jobs.snapshot(job_id)
    if snapshot.state is not JobState.COLLECTING or not shards_done(snapshot):
        return
    shards = shards_of_round(snapshot.info.round, snapshot.stored.shards)
    if missing := await asyncio.to_thread(missing_shards, store, job_id, shards):
        log.error(
            "The files of %d finished shards are gone; they are collected again.",
            len(missing),
            extra={"job_id": job_id},
        )
        await jobs.shards.reopen(job_id, missing)
        return
    if await _stayed_the_same(jobs, store, job_id):
        return
    later = snapshot.info.round > 1
    if not later and train_disparities(snapshot) == 0:
        if await jobs.finish(job_id, JobState.COLLECTING, Outcome.NO_GAP, _no_gap_in_words(snapshot)):
            log.info("The job has no disparity pair to train on.", extra={"job_id": job_id})
        return
    if await jobs.transition(job_id, JobState.COLLECTING, JobState.TRAINING):
        log.info("All shards are done; the training is next.", extra={"job_id": job_id})
        if later:
            await asyncio.to_thread(free_candidate, store, snapshot.stored.spec.student, job_id)
        await send_training(jobs, celery, job_id, patience, train_attempts, trace=snapshot.trace)


async def _stayed_the_same(jobs: JobStore, store: Store, job_id: str) -> bool:
    """End the job as before if pairs were made again and the set is still the same.

    To train again would promote the same checkpoint once more, perhaps over a newer one of another job.
    """
    redo = await asyncio.to_thread(read_redo, store, job_id)
    if redo is None or redo.set_digest is None or await asyncio.to_thread(set_digest, store, job_id) != redo.set_digest:
        return False
    before = redo.before
    reason = before.reason or ""
    if NOTHING_NEW not in reason:
        reason = f"{reason} {NOTHING_NEW}".strip()
    known = {
        "evaluation": before.evaluation.model_dump(mode="json") if before.evaluation is not None else None,
        "checkpoint": before.checkpoint,
        "checkpoint_url": before.checkpoint_url,
    }
    outcome = str(before.outcome) if before.outcome is not None else None
    succeeded = JobState.SUCCEEDED
    if await jobs.transition(job_id, JobState.COLLECTING, succeeded, outcome=outcome, reason=reason, **known):
        log.info("The set is the same as before.", extra={"job_id": job_id})
    return True


async def send_training(
    jobs: JobStore,
    celery: Celery,
    job_id: str,
    patience: float,
    train_attempts: int,
    queue_is_short: bool = True,
    trace: str | None = None,
) -> bool:
    """Send the training's message, unless it was sent or a trainer is at work. Returns whether it was sent."""
    if not await jobs.trainings.claim_due(job_id, patience, queue_is_short, train_attempts):
        return False
    await asyncio.to_thread(enqueue_training, celery, job_id, trace)
    return True


def _no_gap_in_words(snapshot: Snapshot) -> str:
    counts = {verdict: count for verdict, count in to_status(snapshot).verdicts.items() if count}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) or "no pairs"
    if mostly_unusable(pair_counts(snapshot)):
        return f"No disparity pair to train on ({told}): most pairs could not be checked; see the job's warnings."
    held_out = ", all of them on held-out images" if counts.get(Verdict.DISPARITY) else ""
    return f"No disparity pair to train on ({told}{held_out}): the student is as good as the teacher's checked answers."
