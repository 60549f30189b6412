"""A private candidate answers only requests that name it; the active version answers all others."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from shared.checkpoints import CheckpointRegistry
from shared.checkpoints.canaries import CanaryRegistry
from shared.contracts import CanaryState, ScoreItem, ScoreRequest
from shared.errors import UpstreamError
from shared.images import to_data_url
from shared.settings import StudentSettings
from shared.store import Store
from tests.polling import async_wait_until
from tests.services.student.small_replica import QUESTION, Running, answer_of, ask, canary, png, publish, running

OFTEN = {"student_follow_every": timedelta(milliseconds=50)}
PRIVATE = {"share": 0.0, "compare": 0.0, "lifetime_seconds": 60.0, "by": "job j1"}


@pytest.fixture
def canaries(settings: StudentSettings, base: Path, other: Path) -> CanaryRegistry:
    """Of a store with the versions ``other`` and ``third``."""
    store = Store(settings.store_url)
    registry = CheckpointRegistry(store, "student")
    registry.register_base(base)
    publish(registry, other, "other")
    publish(registry, other, "third")
    return CanaryRegistry(store, "student")


async def by_name(replica: Running, version: str, seed: int = 60) -> tuple[str, str]:
    request = ask(seed).model_copy(update={"model": f"student@{version}"})
    reply = await replica.client.chat(request)
    return reply.checkpoint or "", reply.response.choices[0].message.content or ""


async def test_it_answers_and_scores_by_name_and_gets_nothing_else(
    settings: StudentSettings, canaries: CanaryRegistry
) -> None:
    item = ScoreItem(image=to_data_url(png(1)), question=QUESTION, answers=["red"])
    async with running(settings, OFTEN) as replica:
        before = [await answer_of(replica.client, seed) for seed in range(6)]
        with pytest.raises(UpstreamError, match="not being served") as refused:
            await by_name(replica, "other")
        assert refused.value.upstream_status == 404
        await replica.client.start_canary(canary("other", **PRIVATE))
        assert (await by_name(replica, "other"))[0] == "other"
        assert [await answer_of(replica.client, seed) for seed in range(6)] == before, "production sees nothing of it"
        own = await replica.client.score(ScoreRequest(items=[item]))
        replica.client.model = "student@other"
        scored = await replica.client.score(ScoreRequest(items=[item]))
        assert (own.checkpoint, scored.checkpoint) == ("base", "other")
        assert own.scores != scored.scores
        with pytest.raises(UpstreamError, match="canary of other is running") as taken:
            await replica.client.start_canary(canary("third"))
        assert taken.value.upstream_status == 409
        health = await replica.client.health()
        assert health.details["candidates"] == "any"
        assert canaries.end_private("job j1", "the round is over")
        await async_wait_until(lambda: _serves(replica, None), timeout=20)
        with pytest.raises(UpstreamError, match="not being served"):
            await by_name(replica, "other")


@pytest.mark.slow
async def test_replicas_follow_and_what_nobody_asks_for_any_more_is_freed(
    settings: StudentSettings, canaries: CanaryRegistry
) -> None:
    async with running(settings, OFTEN) as first, running(settings, OFTEN) as second:
        await first.client.start_canary(canary("other", **{**PRIVATE, "lifetime_seconds": 2.0}))
        await async_wait_until(lambda: _serves(second, "other"), timeout=20)
        assert await by_name(second, "other") == await by_name(first, "other")
        await async_wait_until(lambda: _serves(first, None), timeout=20)
        await async_wait_until(lambda: _serves(second, None), timeout=20)
    latest = canaries.latest()
    assert latest is not None
    assert (latest.state, latest.reason) == (CanaryState.ABORTED, "it was not renewed before it expired")


async def _serves(replica: Running, version: str | None) -> bool:
    (mine,) = (await replica.client.rollout()).replicas
    return mine.candidate == version
