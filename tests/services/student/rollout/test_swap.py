"""Swaps of one replica: deadlines, rollback without a reload, refusals, and following a pointer that others move."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from shared.checkpoints import CARD_NAME, CheckpointRegistry
from shared.errors import UpstreamError
from shared.settings import StudentSettings
from tests.polling import async_wait_until
from tests.services.student.small_replica import answer_of, canary, publish, running

OFTEN = {"student_follow_every": timedelta(milliseconds=50)}


async def test_a_swap_that_misses_its_deadline_changes_nothing(
    settings: StudentSettings, registry: CheckpointRegistry, other: Path
) -> None:
    async with running(settings) as replica, httpx.AsyncClient(base_url=replica.client.base_url) as http:
        publish(registry, other, "job-b")
        late = await http.put("/v1/checkpoints/active", json={"version": "job-b", "deadline_seconds": 0.001})
        assert (late.status_code, late.headers["retry-after"]) == (503, "1")
        assert "base goes on serving" in late.json()["detail"]
        assert (await answer_of(replica.client))[0] == "base" == registry.active().version
        assert (await replica.client.activate("job-b", by="test")).changed
        shown = (await http.get("/metrics")).text
        for result in ("failed", "swapped"):
            assert f'mpa_student_swap_seconds_count{{result="{result}"}} 1.0' in shown
        assert "mpa_student_queued_requests 0.0" in shown


async def test_a_swap_that_waits_for_others_keeps_its_deadline(settings: StudentSettings) -> None:
    async with running(settings) as replica, httpx.AsyncClient(base_url=replica.client.base_url) as http:
        async with replica.app.state.rollout.exclusive():
            late = await http.put("/v1/checkpoints/active", json={"version": "base", "deadline_seconds": 0.1})
        assert late.status_code == 503
        assert "Other swaps took all of the 0.1 s" in late.json()["detail"]
        assert not (await replica.client.activate("base", by="test")).changed


async def test_a_rollback_needs_no_files_while_the_previous_version_is_held(
    settings: StudentSettings, registry: CheckpointRegistry, other: Path
) -> None:
    async with running(settings) as replica:
        before = await answer_of(replica.client)
        publish(registry, other, "job-b")
        await replica.client.activate("job-b", by="test")
        (registry.local("base") / "model.safetensors").write_bytes(b"gone")
        assert (await replica.client.rollback()).version == "base"
        assert await answer_of(replica.client) == before


async def test_a_rollback_loads_and_checks_what_is_not_held(
    settings: StudentSettings, registry: CheckpointRegistry, other: Path
) -> None:
    async with running(settings, {"student_keep_previous": False}) as replica:
        publish(registry, other, "job-b")
        await replica.client.activate("job-b", by="test")
        weights = registry.local("base") / "model.safetensors"
        good = weights.read_bytes()
        weights.write_bytes(good[:-100])
        with pytest.raises(UpstreamError, match="truncated"):
            await replica.client.rollback()
        assert (await answer_of(replica.client))[0] == "job-b" == registry.active().version
        weights.write_bytes(good)
        assert (await replica.client.rollback()).version == "base"


async def test_a_card_whose_digest_does_not_match_is_refused(
    settings: StudentSettings, registry: CheckpointRegistry, other: Path
) -> None:
    async with running(settings) as replica:
        publish(registry, other, "job-b")
        card = registry.card("job-b").model_copy(update={"digest": "0" * 64})
        (registry.local("job-b") / CARD_NAME).write_text(card.model_dump_json())
        with pytest.raises(UpstreamError, match="its digest does not follow from its files") as caught:
            await replica.client.activate("job-b", by="test")
        assert caught.value.upstream_status == 422
        assert (await answer_of(replica.client))[0] == "base" == registry.active().version


async def test_a_pointer_to_a_bad_version_is_refused_once_and_left_behind(
    settings: StudentSettings, registry: CheckpointRegistry, other: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(settings, OFTEN) as replica:
        publish(registry, other, "job-bad")
        publish(registry, other, "job-good")
        (registry.local("job-bad") / "model.safetensors").write_bytes(b"rubbish")
        registry.set_active("job-bad", "somebody")

        async def complains() -> bool:
            return "job-bad cannot serve" in (await replica.client.rollout()).replicas[0].problem

        await async_wait_until(complains)
        view = await replica.client.rollout()
        assert (view.active.version, view.converged, view.replicas[0].version) == ("job-bad", False, "base")
        assert (await replica.client.health()).ready
        assert "job-bad cannot serve" in (await replica.client.health()).reason
        registry.set_active("job-good", "somebody")

        async def follows() -> bool:
            return (await replica.client.rollout()).converged

        await async_wait_until(follows)
        view = await replica.client.rollout()
        assert (view.replicas[0].version, view.replicas[0].problem) == ("job-good", "")
        assert view.replicas[0].generation == registry.active().generation
    refusals = [r for r in caplog.records if "Cannot follow the registry" in r.message]
    assert len(refusals) == 1


async def test_a_push_alone_moves_the_other_replica(
    settings: StudentSettings, registry: CheckpointRegistry, other: Path, redis_url: str
) -> None:
    """No replica looks by itself within the hour."""
    told = {"student_follow_every": timedelta(hours=1), "redis_url": redis_url}
    async with running(settings, told) as first, running(settings, told) as second:

        async def both_listed() -> bool:
            return len((await first.client.rollout()).replicas) == 2

        async def converged() -> bool:
            return (await second.client.rollout()).converged

        await async_wait_until(both_listed)
        publish(registry, other, "job-b")
        await first.client.activate("job-b", by="test")
        await async_wait_until(converged)
        assert (await answer_of(second.client))[0] == "job-b"
        await second.client.start_canary(canary("base", share=1.0))
        await async_wait_until(converged)
        assert (await answer_of(first.client))[0] == "base"
        await first.client.abort_canary(by="test")
        await async_wait_until(converged)
        assert (await answer_of(second.client))[0] == "job-b"


async def test_concurrent_promotions_and_rollbacks_end_where_the_pointer_is(
    settings: StudentSettings, registry: CheckpointRegistry, other: Path
) -> None:
    async with running(settings, OFTEN) as replica:
        publish(registry, other, "job-b")
        await replica.client.activate("job-b", by="test")
        calls = [replica.client.activate(version, by="test") for version in ("base", "job-b") * 4]
        results = await asyncio.gather(*calls, replica.client.rollback(), return_exceptions=True)
        assert [r for r in results if isinstance(r, BaseException)] == []
        assert (await answer_of(replica.client))[0] == registry.active().version
