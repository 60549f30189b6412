"""Endpoints that know only part of OpenAI's chat format, that fail for a while or are away, over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.parity.endpoints.endpoint import Endpoint
from services.parity.endpoints.evidence import RetryPolicy
from services.parity.endpoints.limiter import Limiter
from services.parity.endpoints.patience import RequestRefused
from services.parity.worker.shard import ShardWork
from shared.client import ChatClient, image_question
from shared.contracts import ChatRequest, JobState
from shared.images import to_data_url
from shared.state import JobStore
from tests.polling import async_wait_until
from tests.quick_server import ServerThread
from tests.scripted_models import Body, ScriptedModel
from tests.services.parity.collecting import Model, Spec, Submit, collect
from tests.services.parity.conftest import png

QUICK = RetryPolicy(first=0.01, longest=0.02, settled=0.1, settled_in_words=0.05)
URL = to_data_url(png(1))
Pair = tuple[ScriptedModel, Endpoint]


def request(**params: Any) -> ChatRequest:
    return image_question("m", URL, "what?", **{"max_tokens": 5, **params})


def image_url(body: Body) -> str:
    return str(body["messages"][-1]["content"][0]["image_url"]["url"])


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
    words = "The image is bad (seed, logprobs and max_completion_tokens do not matter)."
    model.refusal = lambda body: words if image_url(body) == URL else None
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


async def test_a_refused_choice_ends_the_calls_for_the_others(pair: Pair) -> None:
    model, upstream = pair
    model.script = lambda body: say_seed(body)[:1]
    # The second choice is refused; the third one is turned away, which would be tried again and again.
    model.refusal = lambda body: "no such image" if (body.get("n", 1), body.get("seed")) == (1, 8) else None
    model.failure = lambda body: 429 if (body.get("n", 1), body.get("seed")) == (1, 9) else None
    with pytest.raises(RequestRefused, match="no such image"):
        await upstream.chat(request(n=3, seed=7))
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_asks_for_nothing_is_not_sent(pair: Pair) -> None:
    model, upstream = pair
    await upstream.chat(request())
    await upstream.chat(request(n=2, logprobs=True))
    plain, full = model.requests
    assert {"n", "logprobs", "stream"}.isdisjoint(plain) and plain["temperature"] == 1.0
    assert (full["n"], full["logprobs"]) == (2, True)


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


async def _waiting(jobs: JobStore, job_id: str) -> str:
    return (await jobs.get(job_id)).waiting_for or ""
