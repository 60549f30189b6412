"""This release next to a later one: it keeps unknown fields, and does not touch what it must not guess at."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from services.parity.jobs.rebuild import rebuild_all
from services.parity.jobs.submission import spec_key
from services.parity.worker.shard import ShardWork
from shared.checkpoints import CheckpointRegistry
from shared.checkpoints.files import parse_card
from shared.client import ParityClient
from shared.compatibility import SCHEMA as OWN
from shared.compatibility import check_schema, read_stored
from shared.contracts import CheckpointCard, JobState, StoredSpec
from shared.errors import BadCheckpoint, NewerSchema, NotFound
from shared.queue import COLLECT_QUEUE, COLLECT_TASK, TRAIN_TASK, check_message, enqueue_shard, make_celery
from shared.queue.work_loop import Work, WorkLoop
from shared.queue.worker import register
from shared.sets import read_shard, shard_key
from shared.settings import ParitySettings
from shared.state import JobInfo, JobStore, ShardRecord, TrainingRecord
from shared.store import Store
from tests.polling import async_wait_until
from tests.upgrade.conftest import Recorded

Spec = Callable[..., dict[str, Any]]


def altered(client: redis.Redis, job_id: str, field: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a field of a record as a later release might have written it."""
    value = json.loads(client.hget(f"mpa:job:{job_id}", field) or "{}")
    change(value)
    client.hset(f"mpa:job:{job_id}", field, json.dumps(value))


async def test_what_a_later_api_added_is_ignored_and_kept(
    api: ParityClient, spec: Spec, work: ShardWork, redis_url: str, store: Store
) -> None:
    job = await api.submit(spec())
    with redis.Redis.from_url(redis_url) as client:
        altered(client, job.id, "spec", lambda v: (v.update(later=1), v["spec"].update(later={"deep": True})))  # type: ignore[func-returns-value]
        altered(client, job.id, "info", lambda v: v.update(later="kept"))
        altered(client, job.id, "shard:1", lambda v: v.update(later=[1, 2]))
        stored = json.loads(store.read(spec_key(job.id)))
        stored["spec"]["annotator"]["later"] = "x"
        store.write(spec_key(job.id), json.dumps(stored).encode())
        for shard in range(4):
            await work.run(job.id, shard)
        assert (await api.job(job.id)).state is JobState.TRAINING
        assert json.loads(client.hget(f"mpa:job:{job.id}", "info") or "")["later"] == "kept"
        assert json.loads(client.hget(f"mpa:job:{job.id}", "shard:1") or "")["later"] == [1, 2]
        assert json.loads(client.hget(f"mpa:job:{job.id}", "spec") or "")["spec"]["later"] == {"deep": True}


async def test_a_job_of_a_newer_schema_is_shown_and_left_to_newer_workers(
    api: ParityClient, spec: Spec, work: ShardWork, jobs: JobStore, redis_url: str
) -> None:
    newer, plain = await api.submit(spec()), await api.submit(spec())
    with redis.Redis.from_url(redis_url) as client:
        altered(client, newer.id, "spec", lambda v: v.update(schema_version=OWN + 1))
    await work.run(newer.id, 0)
    snapshot = await jobs.snapshot(newer.id)
    assert snapshot.state is JobState.QUEUED and snapshot.shard(0).attempts == 0
    assert {job.id for job in (await api.jobs()).jobs} == {newer.id, plain.id}
    with pytest.raises(NewerSchema, match="docs/upgrading"):
        await jobs.trainings.acquire(newer.id, "me", 5.0, 3)
    for shard in range(4):
        await work.run(plain.id, shard)

    async def trained() -> bool:
        return (await api.job(plain.id)).state is JobState.TRAINING

    await async_wait_until(trained, timeout=20)


async def test_a_job_of_a_newer_schema_is_not_rebuilt_with_less_than_it_had(
    api: ParityClient, spec: Spec, jobs: JobStore, store: Store
) -> None:
    newer, plain = await api.submit(spec()), await api.submit(spec())
    stored = json.loads(store.read(spec_key(newer.id))) | {"schema_version": OWN + 1}
    store.write(spec_key(newer.id), json.dumps(stored).encode())
    await jobs._hash.redis.flushall()
    await rebuild_all(jobs, store)
    assert (await jobs.get(plain.id)).state is JobState.QUEUED
    with pytest.raises(NotFound):
        await jobs.get(newer.id)
    assert {job.id for job in (await api.jobs()).jobs} == {newer.id, plain.id}


@pytest.mark.parametrize(
    ("task", "ids", "arguments"), [(COLLECT_TASK, ["job_id", "shard"], ["j", 1]), (TRAIN_TASK, ["job_id"], ["j"])]
)
def test_messages(task: str, ids: list[str], arguments: list[Any], settings: ParitySettings) -> None:
    ran: list[tuple[Any, ...]] = []

    @asynccontextmanager
    async def open_work() -> AsyncIterator[Work]:
        async def work(*given: Any) -> None:
            ran.append(given)

        yield work

    app = make_celery(settings)
    with WorkLoop(open_work) as loop:
        register(app, task, ids, loop)
        taken = app.tasks[task]
        taken.apply(args=arguments, throw=True)
        taken.apply(args=arguments, kwargs={"later": 1}, headers={"mpa_schema": OWN}, throw=True)
        assert ran == [tuple(arguments)] * 2
        taken.apply(args=arguments, headers={"mpa_schema": OWN + 1, "mpa_release": "9.0"}, throw=True)
        assert len(ran) == 2


def test_a_message_says_its_schema_and_release(settings: ParitySettings, redis_url: str) -> None:
    enqueue_shard(make_celery(settings), "j", 3)
    with redis.Redis.from_url(redis_url) as client:
        headers = json.loads(client.lindex(COLLECT_QUEUE, 0) or "")["headers"]
    assert headers["mpa_schema"] == 1 and headers["mpa_release"]
    assert headers["argsrepr"] == "['j', 3]"  # what workers of all releases so far take
    check_message(headers)


def test_records_keep_what_they_do_not_know() -> None:
    for kind in (JobInfo, ShardRecord, TrainingRecord):
        text = '{"attempts":2,"later":{"a":1}}' if kind is not JobInfo else '{"base_images":2,"later":{"a":1}}'
        assert json.loads(kind.load(text).dump()) == json.loads(text)
    result = ShardRecord.load('{"result":{"images":3,"later":1}}').result
    assert result is not None and result.images == 3


def test_shards(recorded: Recorded, store: Store) -> None:
    key = shard_key(recorded.jobs["small"], 0)
    table = pq.read_table(io.BytesIO(store.read(key)))
    wider = table.append_column("later", pa.array(["x"] * table.num_rows))
    store.write(key, _parquet(wider))
    assert "later" not in read_shard(store, recorded.jobs["small"], 0).column_names
    store.write(key, _parquet(wider.replace_schema_metadata({"mpa.schema": str(OWN + 1)})))
    with pytest.raises(NewerSchema):
        read_shard(store, recorded.jobs["small"], 0)


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def test_cards_and_promotions(recorded: Recorded, store: Store) -> None:
    registry = CheckpointRegistry(store, "student")
    name, pointer = "checkpoints/student/second/mpa_card.json", "checkpoints/student/.promotions/00000003.json"
    card, promotion = json.loads(store.read(name)), json.loads(store.read(pointer))
    store.write(name, json.dumps(card | {"later": {"x": 1}}).encode())
    store.write(pointer, json.dumps(promotion | {"pointer": promotion["pointer"] | {"later": 1}}).encode())
    assert registry.card("second").version == "second" and registry.active().version == "first"
    store.write(name, json.dumps(card | {"schema_version": OWN + 1}).encode())
    with pytest.raises(BadCheckpoint, match="schema"):
        registry.card("second")
    assert registry.versions() == ["base", "first"]
    newer = promotion["pointer"] | {"schema_version": OWN + 1}
    store.write(pointer, json.dumps(promotion | {"pointer": newer}).encode())
    with pytest.raises(NewerSchema):
        registry.active()


def test_the_number_is_written_only_where_readers_need_it(recorded: Recorded, store: Store) -> None:
    card = parse_card(store.read("checkpoints/student/first/mpa_card.json"), "first")
    assert "schema_version" not in json.loads(card.model_dump_json())
    assert json.loads(card.model_copy(update={"schema_version": 2}).model_dump_json())["schema_version"] == 2


def test_what_is_no_document_is_no_newer_one() -> None:
    with pytest.raises(ValueError, match="job_id"):
        read_stored(StoredSpec, "{}", "x")
    with pytest.raises(ValueError, match="JSON"):
        read_stored(CheckpointCard, "{", "x")
    check_schema(OWN, "x")
