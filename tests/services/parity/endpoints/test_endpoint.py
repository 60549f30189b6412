"""Endpoints that know only part of OpenAI's chat format, that fail for a while or are away, over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.parity.endpoints.endpoint import Endpoint, RequestRefused, RetryPolicy
from services.parity.endpoints.limiter import Limiter
from services.parity.worker.shard import ShardWork
from shared.client import ChatClient, image_question
from shared.contracts import ChatRequest, JobState
from shared.errors import UpstreamError
from shared.images import to_data_url
from shared.sets import set_digest
from shared.state import JobStore
from shared.store import Store
from tests.polling import async_wait_until
from tests.quick_server import ServerThread
from tests.scripted_models import Body, ScriptedModel
from tests.services.parity.collecting import Model, Spec, Submit, collect
from tests.services.parity.conftest import png

QUICK = RetryPolicy(first=0.01, longest=0.02)
URL = to_data_url(png(1))
Pair = tuple[ScriptedModel, Endpoint]


def request(**params: Any) -> ChatRequest:
    return image_question("m", URL, "what?", **{"max_tokens": 5, **params})


def say_seed(body: Body) -> list[str]:
    return [f"seed {body.get('seed')} of {i}" for i in range(body.get("n", 1))]


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    model = ScriptedModel(say_seed)
    server = ServerThread(model.app())
    async with ChatClient(server.url, model="m", timeout=10) as client:
        yield model, Endpoint("teacher", client, Limiter("teacher", 8), asyncio.Event(), QUICK)
    server.stop()


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("logprobs", True, "Unrecognized request argument supplied: logprobs"),
        ("seed", 7, "seed: Extra inputs are not permitted"),
        ("top_p", 0.5, "Unsupported parameter: 'top_p' is not supported with this model."),
        ("temperature", 0.0, "'temperature' does not support 0 with this model. Only the default (1) is supported."),
        ("n", 3, "Only one completion choice is allowed: n must be 1."),
    ],
)
async def test_a_parameter_that_is_refused_is_done_without_from_then_on(
    pair: Pair, field: str, value: Any, words: str
) -> None:
    model, upstream = pair
    model.refusal = lambda body: words if body.get(field) == value else None
    asked = request(**{"temperature": 0.3, field: value})
    first = await upstream.chat(asked)
    refused = len([body for body in model.requests if body.get(field) == value])
    second = await upstream.chat(asked)
    assert refused == len([body for body in model.requests if body.get(field) == value]) == 1
    assert len(first.response.choices) == len(second.response.choices) == asked.n


async def test_max_tokens_may_be_called_otherwise(pair: Pair) -> None:
    model, upstream = pair
    model.refusal = lambda body: (
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        if "max_tokens" in body
        else None
    )
    await upstream.chat(request())
    await upstream.chat(request(max_tokens=9))
    assert [body.get("max_completion_tokens") for body in model.requests] == [None, 5, 9]


async def test_several_refusals_are_healed_one_after_the_other(pair: Pair) -> None:
    model, upstream = pair

    def refusal(body: Body) -> str | None:
        return next((f"unknown field {name}" for name in ("seed", "logprobs") if name in body), None)

    model.refusal = refusal
    await upstream.chat(request(seed=1, logprobs=True))
    assert len(model.requests) == 3
    assert {"seed", "logprobs"}.isdisjoint(model.requests[-1])


async def test_a_refusal_that_nothing_heals_is_told_and_teaches_nothing(pair: Pair) -> None:
    model, upstream = pair
    model.refusal = lambda body: "The image is bad (seed, logprobs and max_completion_tokens do not matter)."
    with pytest.raises(RequestRefused, match="The image is bad"):
        await upstream.chat(request(seed=1, logprobs=True))
    model.refusal = None
    await upstream.chat(request(seed=1, logprobs=True))
    assert (model.requests[-1]["seed"], model.requests[-1]["logprobs"], model.requests[-1]["max_tokens"]) == (
        1,
        True,
        5,
    )


async def test_a_server_that_sends_one_choice_is_asked_for_the_others(pair: Pair) -> None:
    model, upstream = pair
    model.script = lambda body: say_seed(body)[:1]
    reply = (await upstream.chat(request(n=3, seed=2**31 - 1))).response
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in reply.choices}) == 3
    assert all(0 <= body["seed"] < 2**31 for body in model.requests)
    assert reply.usage is not None and (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (30, 12)


async def test_a_failed_choice_ends_the_calls_for_the_others(pair: Pair) -> None:
    model, upstream = pair
    model.script = lambda body: say_seed(body)[:1]
    # The second choice is denied; the third one is turned away, which would be tried again and again.
    model.failure = lambda body: {(1, 8): 401, (1, 9): 503}.get((body.get("n", 1), body["seed"]))
    with pytest.raises(UpstreamError, match="401"):
        await upstream.chat(request(n=3, seed=7))
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_asks_for_nothing_is_not_sent(pair: Pair) -> None:
    model, upstream = pair
    await upstream.chat(request())
    await upstream.chat(request(n=2, logprobs=True))
    plain, full = model.requests
    assert {"n", "logprobs", "stream"}.isdisjoint(plain) and plain["temperature"] == 1.0
    assert (full["n"], full["logprobs"]) == (2, True)


@pytest.mark.parametrize("status", [429, 503])
async def test_a_request_is_turned_away_for_ever_but_breaks_a_server_only_so_often(pair: Pair, status: int) -> None:
    model, upstream = pair
    unlucky, left = request(max_tokens=77), 2 * QUICK.overtaken

    def failure(body: Body) -> int | None:
        nonlocal left
        left -= body["max_tokens"] == 77
        return status if body["max_tokens"] == 77 and left >= 0 else None

    model.failure = failure
    asking = asyncio.create_task(upstream.chat(unlucky))
    while not asking.done():
        await upstream.chat(request())
    if status == 429:
        assert (await asking).response.choices
    else:
        with pytest.raises(RequestRefused, match="answered other requests but never this one"):
            await asking


@pytest.mark.slow
@pytest.mark.parametrize("which", ["teacher", "student"])
async def test_a_model_server_that_is_away_delays_the_job_and_says_so(
    work: ShardWork, jobs: JobStore, submit: Submit, spec: Spec, teacher: Model, student: Model, which: str
) -> None:
    model, server = {"teacher": teacher, "student": student}[which]
    server.stop()
    job_id = await submit(spec())
    running = asyncio.create_task(collect(work, job_id))
    status = await async_wait_until(lambda: _waiting(jobs, job_id))
    assert status.startswith(f"{which} at {server.url}: ")
    back = ServerThread(model.app(), server.port)
    async with asyncio.timeout(40):
        await running
    done = await jobs.get(job_id)
    assert (done.state, done.waiting_for) == (JobState.TRAINING, None)
    assert all(shard.attempts == 1 for shard in (await jobs.snapshot(job_id)).round_shards().values())
    back.stop()


async def test_passing_failures_change_nothing(
    work: ShardWork, submit: Submit, spec: Spec, teacher: Model, store: Store
) -> None:
    calm, disturbed = await submit(spec()), await submit(spec())
    await collect(work, calm)
    teacher[0].failures = [(429, {"Retry-After": "1"}), (503, {}), (500, {}), (502, {})] * 3
    await collect(work, disturbed)
    assert not teacher[0].failures
    assert set_digest(store, calm) == set_digest(store, disturbed)


async def _waiting(jobs: JobStore, job_id: str) -> str:
    return (await jobs.get(job_id)).waiting_for or ""
