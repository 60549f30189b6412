"""This release continues where an earlier one stopped: its messages, records, specs, shards, cards and promotions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from services.parity.jobs.rebuild import rebuild
from services.parity.worker.shard import ShardWork
from shared.checkpoints import CheckpointRegistry, verify_folder
from shared.client import ParityClient
from shared.contracts import JobState, JobStatus
from shared.sets import SCHEMA, read_set, read_shard, shard_key, to_pair
from shared.settings import ParitySettings
from shared.state import JobStore
from shared.store import Store
from tests.polling import async_wait_until
from tests.services.trainer.scripted_student import ScriptedStudent, scripted_student
from tests.upgrade.conftest import Recorded

NEWER = {"round", "gap_logprob", "rationale", "confidence_gap", "teacher_top"}


async def reached(api: ParityClient, job_id: str, state: JobState, seconds: float = 60) -> JobStatus:
    async def look() -> JobStatus | None:
        status = await api.job(job_id)
        return status if status.state is state else None

    found = await async_wait_until(look, timeout=seconds, every=0.05)
    assert found is not None
    return found


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as found:
        yield found


async def test_a_job_that_was_being_collected_is_collected(
    recorded: Recorded, client: redis.Redis, api: ParityClient, work: ShardWork, store: Store
) -> None:
    job_id = recorded.restore(client, "pile", "collecting")
    before = await api.job(job_id)
    assert before.state is JobState.COLLECTING and before.shards.done == 1
    first = store.read(shard_key(job_id, 0))
    for message in recorded.messages("collect"):
        arguments = json.loads(json.loads(message)["headers"]["argsrepr"].replace("'", '"'))
        await work.run(*arguments)
    after = await reached(api, job_id, JobState.TRAINING)
    assert (after.images.done, after.pairs, after.round) == (20, 40, 1)
    assert store.read(shard_key(job_id, 0)) == first
    assert read_set(store, job_id).num_rows == 40


async def test_a_job_whose_record_is_lost_is_rebuilt_from_its_old_files(
    recorded: Recorded, jobs: JobStore, store: Store
) -> None:
    job_id = recorded.jobs["small"]
    assert await rebuild(jobs, store, job_id)
    snapshot = await jobs.snapshot(job_id)
    assert snapshot.state is JobState.COLLECTING and snapshot.shard(0).result is not None
    assert snapshot.stored.spec.rounds.max == 1 and snapshot.stored.schema_version == 1


def test_what_an_old_shard_does_not_have_is_null(recorded: Recorded, store: Store) -> None:
    table = read_shard(store, recorded.jobs["small"], 0)
    assert table.schema.equals(SCHEMA) and table.num_rows == 16
    assert all(table[name].null_count == 16 for name in NEWER)
    assert read_set(store, recorded.jobs["small"], rounds=[1]).num_rows == 16
    assert [to_pair(row).question for row in table.to_pylist()] == table["question"].to_pylist()


def test_old_checkpoints_serve_and_roll_back(recorded: Recorded, store: Store) -> None:
    registry = CheckpointRegistry(store, "student")
    assert registry.versions() == ["base", "first", "second"]
    assert (registry.active().version, registry.active().generation) == ("first", 3)
    for version in registry.versions():
        verify_folder(registry.local(version), registry.card(version))
    assert registry.card("second").evaluation is not None
    assert registry.set_active("second", "somebody").generation == 4
    assert registry.rollback("somebody").version == "first"
    assert registry.rollback("somebody").version == "base"


@pytest.fixture
def scripted() -> Iterator[ScriptedStudent]:
    with scripted_student() as script:
        yield script


def start(module: str, settings: ParitySettings, **more: str) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "MPA_DATA_DIR": str(settings.data_dir),
        "MPA_STORE": settings.store_url,
        "MPA_REDIS_URL": settings.redis_url,
        "MPA_TEACHER_URL": settings.teacher_url,
        "MPA_STUDENT_URL": settings.student_url,
        "MPA_TASKS_FILE": str(settings.tasks_file),
        "MPA_IMAGE_ROOTS": json.dumps([str(path) for path in settings.image_roots]),
        **more,
    }
    return subprocess.Popen([sys.executable, "-m", module], env=environment)


async def left_behind(jobs: JobStore, job_id: str, state: JobState, seconds: float) -> JobStatus:
    """The job once a worker has brought it there, without an API that would also send messages."""

    async def look() -> JobStatus | None:
        status = await jobs.get(job_id)
        return status if status.state is state else None

    found = await async_wait_until(look, timeout=seconds, every=0.05)
    assert found is not None
    return found


@pytest.mark.slow
async def test_a_worker_takes_old_messages(
    recorded: Recorded, client: redis.Redis, jobs: JobStore, settings: ParitySettings
) -> None:
    job_id = recorded.restore(client, "pile", "queued")
    client.lpush("collect", *reversed(recorded.messages("collect")))
    worker = start("services.parity.worker", settings)
    try:
        done = await left_behind(jobs, job_id, JobState.TRAINING, 60)
    finally:
        worker.kill()
        worker.wait(10)
    assert (done.images.done, done.pairs) == (20, 40)


@pytest.mark.slow
async def test_a_trainer_takes_an_old_message_and_set(
    recorded: Recorded,
    client: redis.Redis,
    jobs: JobStore,
    settings: ParitySettings,
    scripted: ScriptedStudent,
    store: Store,
    tiny_student: Path,
) -> None:
    store.delete("checkpoints/student")  # the recorded ones have no weights to train
    registry = CheckpointRegistry(store, "student")
    registry.register_base(tiny_student)
    job_id = recorded.restore(client, "small", "training")
    client.lpush("train", *recorded.messages("train"))
    trainer = start("services.trainer.worker", settings, MPA_STUDENT_URL=scripted.url, MPA_TRAIN_THREADS="1")
    try:
        done = await left_behind(jobs, job_id, JobState.SUCCEEDED, 150)
    finally:
        trainer.terminate()
        trainer.wait(20)
    assert done.outcome is not None and done.evaluation is not None
    assert done.checkpoint in registry.versions()
