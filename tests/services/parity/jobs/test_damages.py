"""One bad record never stops the others: whatever is damaged, a healthy job beside it ends, and people see the rest."""

from __future__ import annotations

import asyncio
import os
import random
import re
import zlib
from collections.abc import AsyncIterator, Iterator
from datetime import date
from functools import partial

import pytest
import redis
from prometheus_client import CollectorRegistry

from services.parity.components import Components, build
from shared.compatibility import SCHEMA
from shared.contracts import JobState, JobStatus
from shared.errors import MPAError
from shared.settings import ParitySettings
from tests.services.parity.jobs.damages import ALL, RECORD, SPEC, Damage, Place, retype, write_field, write_file
from tests.services.parity.jobs.small_jobs import OVER, SHARDS, collect, collect_what_is_left, submit


@pytest.fixture
async def parity(settings: ParitySettings) -> AsyncIterator[Components]:
    """The API's objects; the tests run the reconciler's rounds."""
    components = build(settings, CollectorRegistry())
    yield components
    await components.jobs.aclose()


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as found:
        yield found


async def listed(parity: Components) -> dict[str, JobStatus]:
    return {job.id: job for job in (await parity.page(None, 100)).jobs}


async def work_on(parity: Components, *job_ids: str, rounds: int = 6) -> None:
    """Rounds of the reconciler, and workers that take every shard that they may."""
    for _ in range(rounds):
        await parity.reconciler.round()
        for job_id in job_ids:
            try:
                await collect_what_is_left(parity.jobs, parity.store, job_id)
            except MPAError:
                continue  # as a worker does, which leaves such a job alone


async def check(parity: Components, place: Place, damage: Damage) -> JobStatus:
    """The damaged job's status in the end."""
    healthy = f"{place.job_id}-healthy"
    for job_id in (place.job_id, healthy):
        await submit(parity.jobs, parity.store, job_id)
        await collect(parity.jobs, parity.store, job_id, 0)
    await parity.reconciler.round()
    await asyncio.to_thread(damage, place)
    await work_on(parity, place.job_id, healthy)
    found = await listed(parity)
    assert found[healthy].state is JobState.TRAINING
    assert (await parity.status(healthy)).state is JobState.TRAINING
    damaged = found[place.job_id]
    assert damaged.state in OVER or damaged.waiting_for
    assert damaged.state is JobState.TRAINING or damaged.reason or damaged.waiting_for
    return damaged


async def tried(parity: Components, client: redis.Redis, name: str, damage: Damage) -> JobStatus:
    client.flushall()
    parity.store.delete("jobs")
    place = Place(client, parity.store, f"20260102-030405-{zlib.crc32(name.encode()):08x}")
    return await check(parity, place, damage)


@pytest.mark.slow
async def test_no_damage_stops_other_jobs(parity: Components, client: redis.Redis) -> None:
    """A part of all damages, another one each day; with TEST_ALL_DAMAGES set all of them."""
    wrong = {}
    names = sorted(ALL)
    if not os.environ.get("TEST_ALL_DAMAGES"):
        names = random.Random(date.today().toordinal()).sample(names, 60)
    for name in names:
        try:
            await tried(parity, client, name, ALL[name])
        except Exception as error:
            wrong[name] = repr(error)
    assert not wrong, "\n".join(f"{name}: {words[:300]}" for name, words in wrong.items())


@pytest.mark.parametrize(
    "name",
    [
        "record gone",
        "record string",
        "state = 'collecting '",
        "info deleted",
        "shard:2 = '{'",
        "spec = '{'",
        "mpa:active gone",
        "mpa:active string",
        "mpa:jobs gone",
        "mpa:jobs string",
        "shard-00000.parquet deleted",
        "shard-00000.parquet cut at 0.9, and the record is gone",
    ],
)
async def test_what_the_store_knows_is_rebuilt(parity: Components, client: redis.Redis, name: str) -> None:
    damage = ALL.get(name) or partial(write_field, "state", "collecting ")
    status = await tried(parity, client, name, damage)
    assert (status.state, status.shards.done, status.pairs) == (JobState.TRAINING, SHARDS, 2 * SHARDS)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("spec.json = b'{', and the record is gone", "spec.json is damaged"),
        ("spec.json = b'null', and the record is gone", "spec.json is damaged"),
        ("spec.json deleted, and the record is gone", "Neither Redis nor the artifact store"),
        ("report.json = b'{', and the record is gone", "report.json is damaged"),
        ("1.json = b'{', and the record is gone", "Round 1 .* is damaged"),
    ],
)
async def test_what_cannot_be_rebuilt_is_shown_with_its_reason(
    parity: Components, client: redis.Redis, name: str, words: str
) -> None:
    status = await tried(parity, client, name, ALL[name])
    assert status.state is JobState.FAILED
    assert re.search(words, status.reason or "") and status.last_error == status.reason


async def test_a_record_of_a_later_release_waits_for_it(parity: Components, client: redis.Redis) -> None:
    stored = await submit(parity.jobs, parity.store, "20260102-030405-newer")
    place = Place(client, parity.store, stored.job_id)
    newer = stored.model_copy(update={"schema_version": SCHEMA + 1})
    write_file(SPEC, newer.model_dump_json().encode(), place)
    client.flushall()
    await work_on(parity, stored.job_id)
    status = (await listed(parity))[stored.job_id]
    assert (status.state, client.exists(place.key)) == (JobState.QUEUED, 0)
    assert "schema" in (status.waiting_for or "")
    # A record that this release can read only in part is left as it is.
    write_field("spec", newer.model_dump_json(), place)
    write_field("state", "labelling", place)
    await parity.reconciler.round()
    assert client.hget(place.key, "state") == b"labelling"
    assert "schema" in ((await parity.status(stored.job_id)).waiting_for or "")


async def test_a_quarantined_job_goes_on_once_it_is_mended(parity: Components, client: redis.Redis) -> None:
    stored = await submit(parity.jobs, parity.store, "20260102-030405-mended")
    place = Place(client, parity.store, stored.job_id)
    retype(RECORD, "gone", place)
    write_file(SPEC, b"{", place)
    await parity.reconciler.round()
    assert (await listed(parity))[stored.job_id].state is JobState.FAILED
    assert parity.reconciler.unreadable.keys() == {stored.job_id}
    write_file(SPEC, stored.model_dump_json().encode(), place)
    await work_on(parity, stored.job_id)
    assert (await parity.status(stored.job_id)).state is JobState.TRAINING
    assert not parity.reconciler.unreadable


async def test_a_retried_job_that_is_lost_from_the_active_ones_goes_on(parity: Components, client: redis.Redis) -> None:
    await submit(parity.jobs, parity.store, "j")
    await parity.jobs.fail("j", "it broke")
    await parity.reconciler.round()
    assert await parity.jobs.active() == []
    await parity.retry("j")
    client.delete("mpa:active")
    await work_on(parity, "j")
    assert (await parity.status("j")).state is JobState.TRAINING
