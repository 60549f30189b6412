"""Moves a job on when its last shard is done. Several callers may notice that; exactly one of them moves it."""

from __future__ import annotations

import asyncio
import logging

from celery import Celery

from services.parity.endpoints.candidate_student import free_candidate
from shared.contracts import JobState, Outcome, Verdict
from shared.job_warnings import mostly_unusable
from shared.queue import enqueue_training
from shared.sets import missing_shards
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
