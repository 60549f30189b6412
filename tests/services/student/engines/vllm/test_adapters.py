"""LoRA checkpoints as adapters on the real vLLM, in a running student service: one server for the whole module."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import os
import shutil
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from safetensors.torch import load_file, save_file

from services.student.engines.vllm.engine import VllmEngine
from shared.contracts import SmokeAnswer
from shared.errors import BadCheckpoint, Unavailable, UpstreamError
from shared.settings import StudentSettings
from shared.vlm.loading import load_model
from shared.vlm.prompting import question_prompt
from tests.openai_rows import ALL_ROWS, Row, check_routes, check_rows
from tests.polling import async_wait_until
from tests.processes import find_descendant
from tests.scoring import score_answers
from tests.services.student.adapter_world import World, adapters, in_float32, make_world, until_only, working
from tests.services.student.engine_cases import GREEDY, RAMBLING, SERVER, texts, until
from tests.services.student.small_replica import Running, canary, running

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600), pytest.mark.slow]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> StudentSettings:
    folder = tmp_path_factory.mktemp("adapters")
    return StudentSettings(
        data_dir=folder,
        student_model=str(in_float32(folder / "base")),
        student_engine="vllm",
        student_vllm_lora=True,
        student_max_model_len=512,
        student_follow_every=timedelta(hours=1),  # swaps past the registry are not put right in the middle of a test
        redis_url="",
    )


@pytest.fixture(scope="module")
def world(settings: StudentSettings) -> World:
    return make_world(settings)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def replica(settings: StudentSettings, world: World) -> AsyncIterator[Running]:
    async with running(settings) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def engine(replica: Running, world: World) -> VllmEngine:
    """The service's engine, serving the base."""
    await replica.client.activate("base", by="test")
    engine = replica.app.state.rollout.engine
    assert isinstance(engine, VllmEngine)
    return engine


async def test_an_adapter_answers_as_the_merged_weights(replica: Running, engine: VllmEngine, world: World) -> None:
    assert world.said("first") != world.said("base") != world.said("second") != world.said("first")
    result = await replica.client.activate("first", by="test")
    assert result.changed and await adapters() == ["first"]
    for case, wanted in zip(world.cases, world.truth["first"], strict=True):
        answered = await engine.answer(case.question, [GREEDY])
        (answer,) = answered.answers
        assert answered.version == "first" and answer.text == wanted.text
        assert [t.id for t in answer.tokens] == [t.id for t in wanted.tokens]
        assert [t.logprob for t in answer.tokens] == pytest.approx([t.logprob for t in wanted.tokens], abs=1e-4)


@pytest.mark.parametrize("rows", ALL_ROWS)
async def test_openais_dialect(replica: Running, rows: Sequence[Row]) -> None:
    await asyncio.to_thread(check_rows, replica.client.base_url, "student", rows)


async def test_paths_and_methods_that_openai_has_and_we_do_not(replica: Running) -> None:
    await asyncio.to_thread(check_routes, replica.client.base_url)


async def test_metrics_say_how_long_requests_wait_in_vllm(replica: Running, engine: VllmEngine, world: World) -> None:
    await texts(engine, world.cases[:1])
    async with httpx.AsyncClient(base_url=replica.client.base_url, trust_env=False) as http:
        lines = (await http.get("/metrics")).text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
    name = "vllm:request_queue_time_seconds_count"
    waited = [float(value) for key, value in values.items() if key.startswith(name)]
    assert waited and sum(waited) >= 1
    assert "mpa_student_batch_answers_count" in values


async def test_an_adapter_scores_as_the_merged_weights(replica: Running, engine: VllmEngine, world: World) -> None:
    await replica.client.activate("second", by="test")
    answers, cases = ["red", "two boards"], world.cases[:4]
    scored = await engine.score([(case.question, answers) for case in cases])
    loaded = load_model(world.folders["second"])
    prompts = [question_prompt(loaded, case.image, case.text) for case in cases]
    for row, wanted in zip(scored.scores, score_answers(loaded, prompts, [answers] * len(cases)), strict=True):
        for found, right in zip(row, wanted, strict=True):
            assert found.logprobs == pytest.approx(right.logprobs, abs=1e-4)


async def test_swaps_between_adapters_and_their_base_under_load(
    replica: Running, engine: VllmEngine, world: World
) -> None:
    """Requests of several versions share vLLM's batches here, those without an adapter among them."""
    seen: set[str] = set()
    stopping = asyncio.Event()

    async def keep_asking(start: int) -> None:
        place = start
        while not stopping.is_set():
            answered = await engine.answer(world.cases[place].question, [GREEDY])
            assert answered.answers[0].text == world.said(answered.version)[place], answered.version
            seen.add(answered.version)
            place = (place + 1) % len(world.cases)

    clients = [asyncio.create_task(keep_asking(n)) for n in range(8)]
    for version in ("first", "second", "base", "first", "base", "second"):
        await replica.client.activate(version, by="test")
        seen.clear()
        await until(lambda: version in seen, 60)  # noqa: B023  # called before the next one
    stopping.set()
    await asyncio.gather(*clients)
    await until_only(["second"])


async def test_a_swap_waits_for_nobody_and_nobody_changes_version(
    replica: Running, engine: VllmEngine, world: World
) -> None:
    case, whole = world.cases[0], world.truth["base"][0]
    said, versions = "", set()
    async with aclosing(engine.stream(case.question, [GREEDY])) as pieces:
        async for piece in pieces:
            versions.add(piece.version)
            said += piece.piece.text if piece.piece else ""
            if engine.version == "base":
                await replica.client.activate("first", by="test")  # while this answer is being read
    assert versions == {"base"} and said == whole.text
    assert await texts(engine, world.cases) == world.said("first")


async def test_a_rollback_needs_no_load_and_what_nobody_needs_goes(
    replica: Running, engine: VllmEngine, world: World
) -> None:
    await replica.client.activate("first", by="test")
    await replica.client.activate("second", by="test")
    assert await adapters() == ["first", "second"]
    assert (await replica.client.rollback()).version == "first"
    assert await texts(engine, world.cases) == world.said("first")
    assert (await replica.client.rollback()).version == "base"
    assert await texts(engine, world.cases) == world.said("base")
    await until_only(["first"])


@pytest.mark.parametrize("active", ["base", "first"])
async def test_a_canary_is_an_adapter_beside_the_active_checkpoint(
    replica: Running, engine: VllmEngine, world: World, active: str
) -> None:
    server = find_descendant(os.getpid(), SERVER)
    await replica.client.activate(active, by="test")
    await replica.client.start_canary(canary("second"))
    router = replica.app.state.router
    answered = await asyncio.gather(*(router.answer(case.question, [GREEDY]) for case in world.cases))
    assert {a.version for a in answered} == {active, "second"}
    for place, a in enumerate(answered):
        assert a.answers[0].text == world.said(a.version)[place]
    assert (await replica.client.promote_canary("test")).version == "second"
    assert await texts(engine, world.cases) == world.said("second")
    assert find_descendant(os.getpid(), SERVER) == server
    await until_only(["first", "second"] if active == "first" else ["second"])


async def test_a_swap_that_is_given_up_ends_as_one_version_and_leaves_nothing(
    replica: Running, engine: VllmEngine, world: World
) -> None:
    folder = world.registry.local("first")
    for seconds in (0.0, 0.003, 0.006, 0.012, 0.025, 0.05):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await engine.swap("first", folder, None)
        await engine.switch_back("none")  # returns when the swap has ended
        assert await texts(engine, world.cases) == world.said(engine.version)
        if engine.version == "first":
            await replica.client.activate("second", by="test")
            await replica.client.activate("base", by="test")
            await until_only(["second"])
        else:
            await async_wait_until(nothing_of_first, 30)


async def nothing_of_first() -> bool:
    return "first" not in await adapters()


async def test_an_aborted_canary_leaves_vllm(replica: Running, engine: VllmEngine, world: World) -> None:
    await replica.client.activate("first", by="test")
    await replica.client.activate("base", by="test")
    await replica.client.start_canary(canary("second"))
    await replica.client.abort_canary("test")
    assert await texts(engine, world.cases) == world.said("base")
    candidate = await engine.beside("second", world.registry.local("second"), None)
    await candidate.close()
    assert not candidate.alive and "second is no longer a candidate" in candidate.trouble
    with pytest.raises(Unavailable, match="Ask again"):
        await candidate.answer(world.cases[0].question, [GREEDY])
    assert await texts(engine, world.cases) == world.said("base")
    await until_only(["first"])


async def test_whole_weights_cannot_be_a_canary(replica: Running, engine: VllmEngine, world: World) -> None:
    with pytest.raises(
        UpstreamError, match=r"whole cannot be a canary on vLLM.*was not trained as an adapter"
    ) as error:
        await replica.client.start_canary(canary("whole"))
    assert error.value.upstream_status == 422
    assert await texts(engine, world.cases) == world.said("base")


async def test_an_adapter_of_the_vision_tower_is_swapped_as_whole_weights(
    replica: Running, engine: VllmEngine, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    assert world.said("tower") != world.said("base")
    with caplog.at_level(logging.INFO):
        await replica.client.activate("tower", by="test")
    assert "tower is swapped as whole weights" in caplog.text and "only linear layers of the language" in caplog.text
    assert await texts(engine, world.cases) == world.said("tower")
    caplog.clear()
    with caplog.at_level(logging.INFO):
        await replica.client.activate("first", by="test")  # an adapter of the base, which vLLM has no more
    assert "belongs to base, vLLM has the weights of tower" in caplog.text
    assert await texts(engine, world.cases) == world.said("first") and await adapters() == []


async def test_adapters_that_are_wrong_change_nothing(engine: VllmEngine, world: World, tmp_path: Path) -> None:
    def spoilt(name: str, **changes: object) -> Path:
        folder = shutil.copytree(world.registry.local("first"), tmp_path / name)
        tensors = load_file(folder / "adapter" / "adapter_model.safetensors")
        save_file(tensors, folder / "adapter" / "adapter_model.safetensors")
        config = folder / "adapter" / "adapter_config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))
        return folder

    folder = spoilt("nan")
    path = folder / "adapter" / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors[min(tensors)].view(-1)[0] = float("nan")
    save_file(tensors, path)
    with pytest.raises(BadCheckpoint, match="NaN or infinite"):
        await engine.swap("nan", folder, None)
    for folder, reason in ((spoilt("rank", r=64), "rank 64"), (spoilt("dora", use_dora=True), "DoRA")):
        with pytest.raises(BadCheckpoint, match=f"cannot be a canary on vLLM.*{reason}"):
            await engine.beside("wrong", folder, None)
    folder = spoilt("shape")
    path = folder / "adapter" / "adapter_model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if "lora_B" in name)
    save_file({**tensors, name: tensors[name][:-1].contiguous()}, path)
    with pytest.raises(BadCheckpoint, match=r"cannot be a canary on vLLM.*has shape"):
        await engine.beside("wrong", folder, None)
    smoke = SmokeAnswer(
        question=world.cases[0].text, answer="x", image_png_base64=base64.b64encode(world.cases[0].png).decode()
    )
    with pytest.raises(BadCheckpoint, match="its card says 'x'"):
        await engine.beside("first", world.registry.local("first"), smoke)
    assert engine.version == "base" and await texts(engine, world.cases) == world.said("base")


async def test_an_adapter_that_an_abandoned_request_uses_goes_all_the_same(
    replica: Running, engine: VllmEngine, world: World
) -> None:
    await replica.client.activate("endless", by="test")
    asking = [asyncio.create_task(engine.answer(case.question, [RAMBLING] * 2)) for case in world.cases]
    await async_wait_until(working, 30)
    for task in asking:
        task.cancel()
    await replica.client.activate("second", by="test")
    await replica.client.activate("base", by="test")
    await until_only(["second"])
    await asyncio.gather(*asking, return_exceptions=True)
    assert await texts(engine, world.cases) == world.said("base")


async def test_a_killed_vllm_comes_back_with_the_active_adapter(
    replica: Running, engine: VllmEngine, world: World
) -> None:
    await replica.client.activate("second", by="test")
    asking = [asyncio.create_task(engine.answer(case.question, [RAMBLING])) for case in world.cases]
    os.kill(find_descendant(os.getpid(), SERVER), signal.SIGKILL)
    results = await asyncio.gather(*asking, return_exceptions=True)
    refused = [result for result in results if isinstance(result, BaseException)]
    assert refused and all(isinstance(error, Unavailable) and error.retry_after for error in refused)
    await until(lambda: not engine.alive and bool(engine.trouble))
    await until(lambda: engine.alive, 300)
    assert engine.version == "second" and "second" in await adapters()
    assert await texts(engine, world.cases) == world.said("second")
    assert (await replica.client.rollback()).version == "base"
    assert await texts(engine, world.cases) == world.said("base")
