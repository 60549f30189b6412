"""A job whose last shard is done moves on exactly once, to the training or to its end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from celery import Celery

from services.parity.jobs.advance import send_training, settle
from shared.contracts import JobState, Outcome
from shared.queue import TRAIN_QUEUE, make_celery, queue_depth
from shared.sets import write_shard
from shared.settings import ParitySettings
from shared.state import JobStore, ShardResult
from shared.store import Store
from tests.shared.state.conftest import stored

PAIRS = {"student_right": 3, "duplicate": 1}


@pytest.fixture
def celery(settings: ParitySettings) -> Celery:
    return make_celery(settings)


async def collected(
    jobs: JobStore, store: Store, verdicts: dict[str, int] = PAIRS, disparities: int = 0, shards: int = 3
) -> None:
    """A job of three shards, of which the first ``shards`` are done."""
    await jobs.create(stored())
    for shard in range(shards):
        lease = await jobs.shards.acquire("job-1", shard, "w", 30, 3)
        assert lease is not None
        result = ShardResult(images=4, verdicts=verdicts, train_disparity=disparities)
        write_shard(store, "job-1", shard, [])
        await jobs.shards.complete(lease, result)


async def test_many_who_notice_it_send_one_message(jobs: JobStore, store: Store, celery: Celery) -> None:
    await collected(jobs, store, {"disparity": 2}, disparities=2)
    await asyncio.gather(*(settle(jobs, store, celery, "job-1", 30, 3) for _ in range(8)))
    assert (await jobs.get("job-1")).state is JobState.TRAINING
    assert queue_depth(celery, TRAIN_QUEUE) == 1


async def test_a_job_with_an_open_shard_stays(jobs: JobStore, store: Store, celery: Celery) -> None:
    await collected(jobs, store, {"disparity": 2}, disparities=2, shards=2)
    await settle(jobs, store, celery, "job-1", 30, 3)
    assert (await jobs.get("job-1")).state is JobState.COLLECTING
    assert queue_depth(celery, TRAIN_QUEUE) == 0


@pytest.mark.parametrize(
    ("verdicts", "reason"),
    [
        (PAIRS, "No disparity pair to train on (9 student_right, 3 duplicate): the student is as good"),
        ({"disparity": 1, "student_right": 3}, "(3 disparity, 9 student_right, all of them on held-out images)"),
        ({"unparsable": 4}, "(12 unparsable): most pairs could not be checked; see the job's warnings."),
        ({}, "(no pairs)"),
    ],
)
async def test_without_a_disparity_pair_the_job_ends_and_says_why(
    jobs: JobStore, store: Store, celery: Celery, verdicts: dict[str, int], reason: str
) -> None:
    await collected(jobs, store, verdicts)
    await settle(jobs, store, celery, "job-1", 30, 3)
    status = await jobs.get("job-1")
    assert (status.state, status.outcome) == (JobState.SUCCEEDED, Outcome.NO_GAP)
    assert reason in (status.reason or "")
    assert queue_depth(celery, TRAIN_QUEUE) == 0


async def test_a_training_message_is_sent_again_only_if_it_was_lost(
    jobs: JobStore, store: Store, celery: Celery
) -> None:
    await collected(jobs, store, {"disparity": 2}, disparities=2)
    await settle(jobs, store, celery, "job-1", 0, 3)
    options: dict[str, Any] = {"patience": 0, "train_attempts": 3}
    assert not await send_training(jobs, celery, "job-1", **options, queue_is_short=False)
    assert await send_training(jobs, celery, "job-1", **options, queue_is_short=True)
    assert await jobs.trainings.acquire("job-1", "t", 30, 3) is not None
    assert not await send_training(jobs, celery, "job-1", **options, queue_is_short=True)
    assert queue_depth(celery, TRAIN_QUEUE) == 2
