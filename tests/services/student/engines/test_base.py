"""What every student engine must do, on the demo's student; vLLM runs as the real server."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import shutil
import signal
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from services.student.engines.base import Engine
from services.student.engines.transformers.engine import TransformersEngine
from services.student.engines.vllm.engine import VllmEngine
from shared.contracts import SmokeAnswer
from shared.errors import BadCheckpoint, Busy, InvalidInput, Unavailable
from shared.images import to_data_url
from shared.vlm.generation import Generated, generate
from shared.vlm.loading import load_model
from shared.vlm.prompting import question_prompt
from shared.vlm.sampling import Sampling
from tests.polling import async_wait_until
from tests.processes import descendants, find_descendant
from tests.scoring import score_answers
from tests.services.student.engine_cases import (
    GREEDY,
    RAMBLING,
    SERVER,
    SPELLED,
    Case,
    ask,
    changed,
    texts,
    until,
    vllm_requests,
)
from tests.services.student.engines.conftest import QUEUE
from tests.services.teacher.small import gone
from tests.tiny_models import DEMO_STUDENT

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]
MODEL_PROCESS = "services.student.engines.process"


async def test_greedy_answers_are_those_of_plain_generation(
    engine: Engine, cases: list[Case], reference: dict[str, list[Generated]]
) -> None:
    for case, wanted in zip(cases, reference["base"], strict=True):
        (answer,) = (await engine.answer(case.question, [GREEDY])).answers
        assert (answer.text, answer.finish_reason) == (wanted.text, wanted.finish_reason)
        assert (answer.prompt_tokens, answer.completion_tokens) == (wanted.prompt_tokens, wanted.completion_tokens)
        assert [t.id for t in answer.tokens] == [t.id for t in wanted.tokens]
        assert [t.logprob for t in answer.tokens] == pytest.approx([t.logprob for t in wanted.tokens], abs=1e-4)


@pytest.mark.parametrize("text", SPELLED)
async def test_special_tokens_in_a_question_are_text(engine: Engine, cases: list[Case], text: str) -> None:
    case = cases[3]
    loaded = load_model(DEMO_STUDENT)
    prompt = question_prompt(loaded, case.image, text)
    (wanted,) = generate(loaded, [prompt], [GREEDY])
    (answer,) = (await engine.answer(ask(case.png, text), [replace(GREEDY, stop=("<image>", "</s>"))])).answers
    assert (answer.text, answer.finish_reason) == (wanted.text, wanted.finish_reason)
    assert (answer.prompt_tokens, answer.completion_tokens) == (wanted.prompt_tokens, wanted.completion_tokens)
    streamed = ""
    async with aclosing(engine.stream(ask(case.png, text), [GREEDY])) as pieces:
        async for item in pieces:
            streamed += item.piece.text if item.piece is not None else ""
    assert streamed == wanted.text
    (scores,) = (await engine.score([(ask(case.png, text), SPELLED)])).scores
    for score, by_hand in zip(scores, score_answers(loaded, [prompt], [SPELLED])[0], strict=True):
        assert "".join(score.tokens[:-1]) == score.answer and score.tokens == by_hand.tokens
        assert list(score.logprobs) == pytest.approx(list(by_hand.logprobs), abs=1e-3)


async def test_alternatives_come_with_their_log_probabilities(engine: Engine, cases: list[Case]) -> None:
    (answer,) = (await engine.answer(cases[0].question, [Sampling(max_tokens=4, top_logprobs=3)])).answers
    assert answer.tokens
    for token in answer.tokens:
        assert len(token.top) == 3 and token.top[0].logprob == pytest.approx(token.logprob, abs=1e-5)
        assert [a.logprob for a in token.top] == sorted((a.logprob for a in token.top), reverse=True)


async def test_samples_follow_their_seeds(engine: Engine, cases: list[Case]) -> None:
    hot = [Sampling(max_tokens=6, temperature=1.5, seed=seed) for seed in (1, 2, 3)]
    first = (await engine.answer(cases[1].question, hot)).answers
    again = (await engine.answer(cases[1].question, hot)).answers
    assert [a.text for a in first] == [a.text for a in again]
    many = [Sampling(max_tokens=6, temperature=2.0, seed=seed) for seed in range(6)]
    assert len({a.text for a in (await engine.answer(cases[1].question, many)).answers}) > 1


async def test_a_stream_joins_to_the_whole_answer(engine: Engine, cases: list[Case]) -> None:
    whole = (await engine.answer(cases[2].question, [GREEDY, GREEDY])).answers
    said, tokens, done = ["", ""], [0, 0], []
    async with aclosing(engine.stream(cases[2].question, [GREEDY, GREEDY])) as pieces:
        async for item in pieces:
            assert item.version == engine.version
            if item.piece is not None:
                said[item.choice] += item.piece.text
                tokens[item.choice] += len(item.piece.tokens)
            if item.answer is not None:
                done.append(item.answer)
    assert said == [a.text for a in whole] and tokens == [len(a.tokens) for a in whole]
    assert [(a.text, a.completion_tokens) for a in done] == [(a.text, a.completion_tokens) for a in whole]


async def test_limits_and_stop_strings_end_an_answer(engine: Engine, cases: list[Case]) -> None:
    case = cases[0]
    (whole,) = (await engine.answer(case.question, [GREEDY])).answers
    (short,) = (await engine.answer(case.question, [Sampling(max_tokens=1)])).answers
    assert (short.completion_tokens, short.finish_reason) == (1, "length")
    (stopped,) = (await engine.answer(case.question, [Sampling(max_tokens=10, stop=(whole.text[1],))])).answers
    assert (stopped.text, stopped.finish_reason) == (whole.text[0], "stop")


async def test_scores_are_those_of_a_forward_pass(engine: Engine, cases: list[Case]) -> None:
    answers = ["red", "two boards", "unanswerable"]
    loaded = load_model(DEMO_STUDENT)
    scored = await engine.score([(case.question, answers) for case in cases[:4]])
    prompts = [question_prompt(loaded, case.image, case.text) for case in cases[:4]]
    for row, wanted in zip(scored.scores, score_answers(loaded, prompts, [answers] * 4), strict=True):
        assert [s.answer for s in row] == answers
        for found, right in zip(row, wanted, strict=True):
            assert found.tokens == right.tokens
            assert found.logprobs == pytest.approx(right.logprobs, abs=1e-4)


async def test_a_prompt_beyond_the_context_is_refused(engine: Engine, cases: list[Case]) -> None:
    with pytest.raises(InvalidInput):
        await engine.answer(ask(cases[0].png, "what is this? " * 400), [GREEDY])
    assert (await engine.answer(cases[0].question, [GREEDY])).answers


async def test_a_swap_under_load_is_wholly_old_or_wholly_new(
    engine: Engine, cases: list[Case], noisy: Path, reference: dict[str, list[Generated]]
) -> None:
    assert [a.text for a in reference["base"]] != [a.text for a in reference["other"]]
    seen: set[str] = set()
    stopping = asyncio.Event()

    async def keep_asking(start: int) -> None:
        place = start
        while not stopping.is_set():
            answered = await engine.answer(cases[place].question, [GREEDY])
            assert answered.answers[0].text == reference[answered.version][place].text
            seen.add(answered.version)
            place = (place + 1) % len(cases)

    clients = [asyncio.create_task(keep_asking(n)) for n in range(8)]
    await engine.swap("other", noisy, None)
    assert engine.version == "other"
    await until(lambda: "other" in seen, 60)
    if not await engine.switch_back("base"):
        await engine.swap("base", DEMO_STUDENT, None)
    stopping.set()
    await asyncio.gather(*clients)
    assert await texts(engine, cases) == [a.text for a in reference["base"]]


async def test_bad_checkpoints_are_refused_and_the_old_one_serves(
    engine: Engine, cases: list[Case], noisy: Path, tmp_path: Path, reference: dict[str, list[Generated]]
) -> None:
    with pytest.raises(BadCheckpoint, match="NaN or infinite"):
        await engine.swap("nan", changed(tmp_path / "nan", 0.0, spoil=True), None)
    png = io.BytesIO()
    cases[0].image.save(png, "PNG")
    smoke = SmokeAnswer(question=cases[0].text, answer="nonsense", image_png_base64=to_data_url(png.getvalue())[22:])
    with pytest.raises(BadCheckpoint, match="smoke question"):
        await engine.swap("other", noisy, smoke)
    assert engine.version == "base"
    assert await texts(engine, cases) == [a.text for a in reference["base"]]


async def test_work_that_nobody_waits_for_ends_and_leaves_nothing_behind(
    engine: Engine, cases: list[Case], endless: Path, reference: dict[str, list[Generated]]
) -> None:
    on_vllm = isinstance(engine, VllmEngine)

    async def working() -> bool:
        await asyncio.sleep(0)
        return not on_vllm or await vllm_requests() > 0

    async def idle() -> bool:
        return engine.queued == 0 and (not on_vllm or await vllm_requests() == 0)

    await engine.swap("endless", endless, None)
    async with aclosing(engine.stream(cases[0].question, [RAMBLING] * 8)) as pieces:
        await anext(pieces)
        assert await working()
    await async_wait_until(idle, 30)
    asking = [asyncio.create_task(engine.answer(case.question, [RAMBLING] * 2)) for case in cases]
    await async_wait_until(working, 30)
    for task in asking:
        task.cancel()
    if not await engine.switch_back("base"):
        await engine.swap("base", DEMO_STUDENT, None)
    assert await texts(engine, cases) == [a.text for a in reference["base"]]
    await async_wait_until(idle, 30)
    await asyncio.gather(*asking, return_exceptions=True)


async def test_too_many_requests_are_turned_away(engine: Engine, cases: list[Case]) -> None:
    crowd = [engine.answer(cases[0].question, [GREEDY]) for _ in range(4 * QUEUE)]
    results = await asyncio.gather(*crowd, return_exceptions=True)
    refused = [r for r in results if isinstance(r, BaseException)]
    assert refused and len(refused) < len(results)
    assert all(isinstance(r, Busy) and r.retry_after for r in refused)


async def test_scores_count_in_the_limit_too(engine: Engine, cases: list[Case]) -> None:
    if not isinstance(engine, VllmEngine):
        pytest.skip("has one queue for answers and scores")
    crowd = [engine.score([(cases[0].question, ["red"])]) for _ in range(2 * QUEUE)]
    results = await asyncio.gather(*crowd, return_exceptions=True)
    assert sum(isinstance(r, Busy) for r in results) == QUEUE
    assert engine.queued == 0


async def test_a_checkpoint_with_another_chat_template_is_refused(
    engine: Engine, cases: list[Case], tmp_path: Path, reference: dict[str, list[Generated]]
) -> None:
    if not isinstance(engine, VllmEngine):
        pytest.skip("loads the processor with the weights")
    folder = changed(tmp_path / "template", 0.0)
    with (folder / "chat_template.jinja").open("a") as template:
        template.write("{{ 'Answer:' }}")
    with pytest.raises(BadCheckpoint, match=r"its chat_template\.jinja is not the serving checkpoint's"):
        await engine.swap("template", folder, None)
    assert engine.version == "base" and await texts(engine, cases) == [a.text for a in reference["base"]]


async def test_a_killed_child_is_a_503_and_comes_back_with_the_active_checkpoint(
    engine: Engine, cases: list[Case], noisy: Path, reference: dict[str, list[Generated]]
) -> None:
    if isinstance(engine, TransformersEngine):
        pytest.skip("runs in this process")
    await engine.swap("other", noisy, None)
    server = find_descendant(os.getpid(), SERVER if isinstance(engine, VllmEngine) else MODEL_PROCESS)
    family = [server, *descendants(server)]
    asking = [asyncio.create_task(engine.answer(case.question, [Sampling(max_tokens=200)])) for case in cases]
    os.kill(server, signal.SIGKILL)
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert any(isinstance(r, Unavailable) and r.retry_after for r in results)
    assert all(isinstance(r, Unavailable) for r in results if isinstance(r, BaseException))
    await until(lambda: not engine.alive and bool(engine.trouble))
    await until(lambda: all(gone(pid) for pid in family), 30)
    await until(lambda: engine.alive, 300)
    assert await texts(engine, cases) == [a.text for a in reference["other"]]
    await engine.swap("base", DEMO_STUDENT, None)


async def test_weights_of_another_shape_are_refused_before_any_is_touched(
    engine: Engine, cases: list[Case], tmp_path: Path, reference: dict[str, list[Generated]]
) -> None:
    if not isinstance(engine, VllmEngine):
        pytest.skip("loads beside the old one")
    server = find_descendant(os.getpid(), SERVER)
    folder = tmp_path / "torn"
    shutil.copytree(DEMO_STUDENT, folder)
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if "text_model.layers" in name and tensors[name].dim() == 2)
    save_file({**tensors, name: tensors[name][:-1].contiguous()}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BadCheckpoint, match=r"has shape .* goes on serving"):
        await engine.swap("torn", folder, None)
    assert engine.version == "base" and engine.alive and find_descendant(os.getpid(), SERVER) == server
    assert await texts(engine, cases) == [a.text for a in reference["base"]]


async def test_weights_that_cannot_be_read_back_are_read_by_a_new_vllm(
    engine: Engine, cases: list[Case], noisy: Path, tmp_path: Path, reference: dict[str, list[Generated]]
) -> None:
    if not isinstance(engine, VllmEngine):
        pytest.skip("loads beside the old one")
    serving = shutil.copytree(noisy, tmp_path / "serving")
    await engine.swap("other", serving, None)
    smoke = SmokeAnswer(
        question=cases[0].text, answer="nonsense", image_png_base64=base64.b64encode(cases[0].png).decode()
    )
    serving.rename(tmp_path / "away")
    with pytest.raises(BadCheckpoint):
        await engine.swap("base", DEMO_STUDENT, smoke)
    assert engine.version == "other"
    await until(lambda: not engine.alive)
    (tmp_path / "away").rename(serving)
    await until(lambda: engine.alive, 300)
    assert await texts(engine, cases) == [a.text for a in reference["other"]]
    await engine.swap("base", DEMO_STUDENT, None)
