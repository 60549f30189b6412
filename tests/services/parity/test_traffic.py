"""A job on what the traffic tap has sampled: from the tap's pile to collected pairs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.parity.shard_work import ShardWork
from services.parity.sources import SourceRules, list_images
from services.parity.submission import Submitter
from shared.client import ParityClient
from shared.contracts import JobSpec, TrafficSource, Verdict
from shared.errors import InvalidInput, UpstreamError
from shared.sets import read_set
from shared.settings import ParitySettings
from shared.state import JobStore
from shared.store import Store
from shared.traffic import HOUR_FORMAT
from tests.services.parity.conftest import png

Spec = Callable[..., dict[str, Any]]


async def no_check() -> None:
    """No job here asks for attention."""


async def no_check_of_rounds(spec: JobSpec) -> None:
    """No job here has several."""


def tap(store: Store, *numbers: int, hours_ago: int = 0) -> list[str]:
    """Sampled images with their questions, laid out as the student's tap does."""
    hour = (datetime.now(UTC) - timedelta(hours=hours_ago)).strftime(HOUR_FORMAT)
    keys = [f"traffic/student/{hour}/{number:064x}.png" for number in numbers]
    for number, key in zip(numbers, keys, strict=True):
        store.write(key, png(number))
        store.write(key.replace(".png", "-abc.json"), b'{"question": "never read by a job"}')
    return keys


async def test_a_job_collects_the_sampled_images(
    settings: ParitySettings, store: Store, jobs: JobStore, work: ShardWork, spec: Spec
) -> None:
    keys = tap(store, *range(12))
    rules = SourceRules(settings.image_roots, False, 1000)
    submitter = Submitter(jobs, store, work.profiles, ["student"], rules, no_check, no_check, no_check_of_rounds)
    job_id, _ = await submitter.submit(JobSpec.model_validate(spec(images={"kind": "traffic"})))
    shards = (await jobs.snapshot(job_id)).stored.shards
    store.delete(keys[3])  # the tap's house-keeping, while the job runs
    await asyncio.gather(*(work.run(job_id, shard) for shard in range(shards)))
    rows = read_set(store, job_id).to_pylist()
    assert {row["image"] for row in rows} == {store.url_of(key) for key in keys}
    verdicts = Counter(row["verdict"] for row in rows)
    (gone,) = {row["reason"] for row in rows if row["verdict"] == Verdict.UNREADABLE_IMAGE}
    assert "does not exist" in gone
    assert verdicts[Verdict.DISPARITY] > 0


async def test_a_job_may_leave_old_hours_out(store: Store) -> None:
    tap(store, 1, hours_ago=5)
    (young,) = tap(store, 2, hours_ago=1)
    source = TrafficSource(since=datetime.now(UTC) - timedelta(hours=3), tasks=["text"])
    entries = list_images([source], ["chart"], store, SourceRules([], False, 10))
    assert [(entry.image, entry.tasks) for entry in entries] == [(store.url_of(young), ["text"])]
    with pytest.raises(InvalidInput, match="more than 1 images"):
        list_images([TrafficSource()], ["chart"], store, SourceRules([], False, 1))


async def test_an_empty_pile_says_how_to_fill_it(api: ParityClient, spec: Spec) -> None:
    with pytest.raises(UpstreamError, match="MPA_STUDENT_TAP_SHARE"):
        await api.submit(spec(images={"kind": "traffic"}))


@pytest.mark.parametrize("wrong", [{"student": "../jobs"}, {"since": "2026-01-01T00:00:00"}, {"sicne": "x"}])
async def test_wrong_fields_are_refused(api: ParityClient, spec: Spec, wrong: dict[str, str]) -> None:
    with pytest.raises(UpstreamError, match=next(iter(wrong))):
        await api.submit(spec(images={"kind": "traffic", **wrong}))
