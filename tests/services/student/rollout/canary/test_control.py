"""A canary on one replica with real engines: its share, its counts, and how it ends."""

from __future__ import annotations

import asyncio
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from safetensors.torch import load_file, save_file

from shared.checkpoints import CheckpointRegistry
from shared.checkpoints.canaries import CanaryRegistry
from shared.contracts import CanaryReport, CanaryState
from shared.errors import UpstreamError
from shared.settings import StudentSettings
from shared.store import Store
from tests.polling import async_wait_until
from tests.services.student.small_replica import Running, answer_of, ask, canary, publish, running

OFTEN = {"student_follow_every": timedelta(milliseconds=50)}
GREEDY = {"temperature": 0.0}


@pytest.fixture
def registry(settings: StudentSettings, base: Path, other: Path) -> CheckpointRegistry:
    """Versions ``same`` (the base's weights under another name), ``other`` and ``third``."""
    registry = CheckpointRegistry(Store(settings.store_url), "student")
    registry.register_base(base)
    publish(registry, base, "same")
    publish(registry, other, "other")
    publish(registry, other, "third")
    return registry


async def report_of(replica: Running) -> CanaryReport:
    view = await replica.client.rollout()
    assert view.canary is not None
    return view.canary


async def ended(replica: Running) -> CanaryReport:
    """The canary's report when it is over."""

    async def over() -> bool:
        return (await report_of(replica)).canary.state.is_final

    await async_wait_until(over, timeout=30)
    return await report_of(replica)


@pytest.mark.slow
async def test_a_share_of_the_requests_by_their_hash(settings: StudentSettings, registry: CheckpointRegistry) -> None:
    async with running(settings, OFTEN) as replica:
        truth = {"base": [await answer_of(replica.client, seed) for seed in range(40)]}
        await replica.client.activate("other", by="test")
        truth["other"] = [await answer_of(replica.client, seed) for seed in range(40)]
        await replica.client.rollback()
        started = await replica.client.start_canary(canary("other"))
        assert (started.canary.baseline, started.canary.state) == ("base", CanaryState.RUNNING)
        first = [await answer_of(replica.client, seed) for seed in range(40)]
        again = await asyncio.gather(*(answer_of(replica.client, seed) for seed in range(40)))
        assert first == again, "the same request goes to the same version"
        assert [truth[version][seed] for seed, (version, _) in enumerate(first)] == first, "nothing is mixed"
        mine = sum(version == "other" for version, _ in first)
        assert 8 <= mine <= 32
        report = await report_of(replica)
        assert (report.candidate.requests, report.active.requests) == (2 * mine, 80 - 2 * mine)
        assert report.candidate.errors == report.compared == 0, "sampled answers are not compared"
        assert report.candidate.latency_p95 is not None
        await replica.client.start_canary(canary("other", share=1.0))
        assert {(await answer_of(replica.client, seed))[0] for seed in range(10)} == {"other"}
        metrics = (await httpx.AsyncClient(base_url=replica.client.base_url).get("/metrics")).text
        assert f'mpa_student_answers_total{{outcome="answered",version="other"}} {40 + 2 * mine + 10}.0' in metrics


@pytest.mark.slow
async def test_promotion_under_load_drops_and_mixes_nothing(
    settings: StudentSettings, registry: CheckpointRegistry
) -> None:
    async with running(settings, OFTEN) as replica:
        client, seen, stop = replica.client, list[tuple[int, tuple[str, str]]](), asyncio.Event()

        async def keep_asking(seed: int) -> None:
            while not stop.is_set():
                seen.append((seed, await answer_of(client, seed)))

        truth = {("base", seed): (await answer_of(client, seed))[1] for seed in range(8)}
        askers = [asyncio.create_task(keep_asking(seed)) for seed in range(8)]
        await client.start_canary(canary("other"))
        await _more(seen, 24)
        result = await client.promote_canary(by="me", reason="good enough")
        assert (result.version, result.previous, result.changed) == ("other", "base", True)
        await _more(seen, 24)
        stop.set()
        await asyncio.gather(*askers)
        truth |= {("other", seed): (await answer_of(client, seed))[1] for seed in range(8)}
        assert [one for one in seen if truth[one[1][0], one[0]] != one[1][1]] == []
        assert {version for _, (version, _) in seen[-8:]} == {"other"}
        report = await report_of(replica)
        assert (report.canary.state, report.canary.changed_by, report.canary.reason) == (
            CanaryState.PROMOTED, "me", "good enough",
        )  # fmt: skip
        assert registry.active().version == "other"
        with pytest.raises(UpstreamError, match="No canary runs") as caught:
            await client.promote_canary(by="me")
        assert caught.value.upstream_status == 409
        assert (await client.rollback()).version == "base"


async def _more(seen: list[Any], count: int) -> None:
    goal = len(seen) + count

    async def reached() -> bool:
        return len(seen) >= goal

    await async_wait_until(reached, timeout=60)


async def test_an_abort_sends_all_back_to_the_active_version(
    settings: StudentSettings, registry: CheckpointRegistry
) -> None:
    async with running(settings) as replica:
        await replica.client.start_canary(canary("other", share=1.0))
        assert (await answer_of(replica.client))[0] == "other"
        report = await replica.client.abort_canary(by="me", reason="changed my mind")
        assert (report.canary.state, report.canary.reason) == (CanaryState.ABORTED, "changed my mind")
        assert report.candidate.requests == 1
        assert (await answer_of(replica.client))[0] == "base" == registry.active().version
        assert (await replica.client.rollout()).replicas[0].candidate is None


async def test_a_canary_survives_a_restart(settings: StudentSettings, registry: CheckpointRegistry) -> None:
    async with running(settings, OFTEN) as replica:
        await replica.client.start_canary(canary("other", share=1.0))
    async with running(settings, OFTEN) as replica:

        async def serves() -> bool:
            return (await replica.client.rollout()).converged

        await async_wait_until(serves)
        assert (await answer_of(replica.client))[0] == "other"


async def test_what_cannot_be_a_canary(settings: StudentSettings, registry: CheckpointRegistry) -> None:
    async with running(settings) as replica:
        for version, status in (("base", 409), ("none", 404)):
            with pytest.raises(UpstreamError) as caught:
                await replica.client.start_canary(canary(version))
            assert caught.value.upstream_status == status
        with pytest.raises(UpstreamError, match="No canary runs: the latest was never one"):
            await replica.client.abort_canary(by="me")
        await replica.client.start_canary(canary("other"))
        with pytest.raises(UpstreamError, match="The canary of other is running") as caught:
            await replica.client.start_canary(canary("third"))
        assert caught.value.upstream_status == 409


async def test_a_candidate_with_nan_is_refused_before_it_answers_anyone(
    settings: StudentSettings, registry: CheckpointRegistry, other: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(other, tmp_path / "nan"))
    weights = load_file(folder / "model.safetensors")
    weights[sorted(weights)[0]].view(-1)[0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    publish(registry, folder, "nan")
    async with running(settings) as replica:
        with pytest.raises(UpstreamError, match="NaN") as caught:
            await replica.client.start_canary(canary("nan"))
        assert caught.value.upstream_status == 422
        view = await replica.client.rollout()
        assert (view.canary, view.converged) == (None, True)


async def test_another_promotion_ends_the_canary(settings: StudentSettings, registry: CheckpointRegistry) -> None:
    async with running(settings, OFTEN) as replica:
        await replica.client.start_canary(canary("other"))
        await replica.client.activate("third", by="job-7")
        report = await ended(replica)
        assert report.canary.state is CanaryState.ABORTED
        assert "third became active" in report.canary.reason
        await replica.client.start_canary(canary("same"))
        await replica.client.activate("same", by="job-8")
        assert (await ended(replica)).canary.state is CanaryState.PROMOTED


def break_candidate(replica: Running) -> None:
    """From now on every batch of the candidate fails, as with a model that a library does not bear."""
    del replica.app.state.router.candidate.engine._model.serving.loaded.model.lm_head


async def test_a_failing_candidate_costs_no_request_and_is_aborted_by_rule(
    settings: StudentSettings, registry: CheckpointRegistry
) -> None:
    async with running(settings, OFTEN) as replica:
        expected = await answer_of(replica.client)
        rule = {"min_requests": 5, "max_error_rate": 0.2}
        await replica.client.start_canary(canary("other", share=1.0, rule=rule))
        break_candidate(replica)
        assert [await answer_of(replica.client) for _ in range(4)] == [expected] * 4
        report = await report_of(replica)
        assert (report.candidate.errors, report.active.requests) == (4, 4)
        assert report.verdict == "wait: 4 of 5 candidate answers so far"
        body = ask(stream=True).model_dump(mode="json", exclude_none=True)
        async with (
            httpx.AsyncClient(base_url=replica.client.base_url, timeout=60) as http,
            http.stream("POST", "/v1/chat/completions", json=body) as response,
        ):
            assert response.headers["x-mpa-checkpoint"] == "base"
            assert (await response.aread()).endswith(b"data: [DONE]\n\n")
        report = await ended(replica)
        assert (report.canary.state, report.canary.changed_by) == (CanaryState.ABORTED, "rule")
        assert "5 of 5 candidate answers failed" in report.canary.reason
        assert registry.active().version == "base"


async def test_agreement_promotes_by_rule(settings: StudentSettings, registry: CheckpointRegistry) -> None:
    async with running(settings, OFTEN) as replica:
        rule = {"min_requests": 10, "min_agreement": 1.0, "max_latency_ratio": None, "promote": True}
        await replica.client.start_canary(canary("same", share=0.6, rule=rule))
        for seed in range(40):
            await answer_of(replica.client, seed, **GREEDY)
        report = await ended(replica)
        assert (report.canary.state, report.canary.changed_by) == (CanaryState.PROMOTED, "rule")
        assert (report.agreement, registry.active().version) == (1.0, "same")
        assert report.compared >= 1


async def test_disagreement_aborts_by_rule(settings: StudentSettings, registry: CheckpointRegistry) -> None:
    async with running(settings, OFTEN) as replica:
        rule = {"min_requests": 10, "min_agreement": 0.9, "max_latency_ratio": None, "promote": True}
        await replica.client.start_canary(canary("other", share=1.0, rule=rule))
        async with asyncio.timeout(60):
            seed = 0
            while (await report_of(replica)).canary.state is CanaryState.RUNNING:
                body = ask(seed, stream=seed % 2 == 0, max_tokens=12, **GREEDY)
                await replica.client._send(
                    "POST", "/v1/chat/completions", json=body.model_dump(mode="json", exclude_none=True)
                )
                seed += 1
        report = await ended(replica)
        assert report.canary.state is CanaryState.ABORTED
        assert "min_agreement" in report.canary.reason
        assert registry.active().version == "base"


@pytest.mark.slow
async def test_a_promoter_that_dies_leaves_no_canary_behind(
    settings: StudentSettings, registry: CheckpointRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has said that he promotes it, and is never heard of again: before, then after he moved the pointer."""
    monkeypatch.setattr("services.student.rollout.canary.control.PROMOTION_MARGIN", timedelta(milliseconds=100))
    soon = {**OFTEN, "student_swap_timeout": timedelta(seconds=3)}
    canaries = CanaryRegistry(Store(settings.store_url), "student")
    async with running(settings, soon) as replica:
        begun = await replica.client.start_canary(canary("other"))
        canaries.move(begun.canary.id, CanaryState.PROMOTING, "a dead one", "by call")
        report = await ended(replica)
        assert report.canary.state is CanaryState.ABORTED
        assert "ended before it was done" in report.canary.reason
        assert (await answer_of(replica.client))[0] == "base"
        begun = await replica.client.start_canary(canary("other"))
        canaries.move(begun.canary.id, CanaryState.PROMOTING, "a dead one", "by call")
        registry.set_active("other", "a dead one")
        assert (await ended(replica)).canary.state is CanaryState.PROMOTED

        async def follows() -> bool:
            return (await replica.client.rollout()).converged

        await async_wait_until(follows)


async def test_a_replica_that_cannot_load_the_candidate_serves_on_and_says_so(
    settings: StudentSettings, registry: CheckpointRegistry
) -> None:
    canaries = CanaryRegistry(Store(settings.store_url), "student")
    weights = registry.local("other") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    canaries.start(canary("other", share=1.0), "base")
    async with running(settings, OFTEN) as replica:

        async def complains() -> bool:
            return "The canary other cannot serve" in (await replica.client.rollout()).replicas[0].problem

        await async_wait_until(complains)
        assert (await answer_of(replica.client))[0] == "base"
        assert not (await replica.client.rollout()).converged
        await replica.client.abort_canary(by="me")

        async def clean() -> bool:
            view = await replica.client.rollout()
            return view.converged and not view.replicas[0].problem

        await async_wait_until(clean)


async def test_a_candidate_whose_engine_ended_is_loaded_again_and_counts_on(
    settings: StudentSettings, registry: CheckpointRegistry
) -> None:
    async with running(settings, OFTEN) as replica:
        await replica.client.start_canary(canary("other", share=1.0))
        assert (await answer_of(replica.client))[0] == "other"
        await replica.app.state.router.candidate.engine.close()

        async def serves_again() -> bool:
            return (await answer_of(replica.client))[0] == "other"

        await async_wait_until(serves_again)
        report = await report_of(replica)
        assert report.candidate.requests - report.candidate.errors == 2


async def test_promotions_and_aborts_at_once_end_in_one_of_them(
    settings: StudentSettings, registry: CheckpointRegistry
) -> None:
    async with running(settings, OFTEN) as replica:
        await replica.client.start_canary(canary("other"))
        promotions = (replica.client.promote_canary(by="p") for _ in range(3))
        aborts = (replica.client.abort_canary(by="a") for _ in range(3))
        results = await asyncio.gather(*promotions, *aborts, return_exceptions=True)
        done = [r for r in results if not isinstance(r, UpstreamError)]
        assert len(done) == 1
        state, active = (await report_of(replica)).canary.state, registry.active().version
        assert (state, active) in ((CanaryState.PROMOTED, "other"), (CanaryState.ABORTED, "base"))
        assert (await answer_of(replica.client))[0] == active


async def test_a_second_canary_of_a_version_counts_from_zero(
    settings: StudentSettings, registry: CheckpointRegistry
) -> None:
    """The first one is ended behind this replica's back, just before the second begins."""
    canaries = CanaryRegistry(Store(settings.store_url), "student")
    async with running(settings, {"student_follow_every": timedelta(hours=1)}) as replica:
        first = await replica.client.start_canary(canary("other", share=1.0))
        await answer_of(replica.client)
        canaries.move(first.canary.id, CanaryState.ABORTED, "somebody", "elsewhere")
        second = await replica.client.start_canary(canary("other", share=1.0))
        assert second.canary.id != first.canary.id
        assert (await report_of(replica)).candidate.requests == 0
        assert (await answer_of(replica.client))[0] == "other"
        assert (await report_of(replica)).candidate.requests == 1
