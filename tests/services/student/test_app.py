"""The student service over real HTTP with a real (tiny, random) model: answers, scores, refusals, metrics."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError

from shared.client import image_question
from shared.contracts import ScoreItem, ScoreRequest
from shared.errors import Unavailable, UpstreamError
from shared.images import to_data_url
from shared.settings import StudentSettings
from tests.services.student.small_replica import answer_of, ask, batches, data_url, png, running


async def test_answers_name_their_checkpoint(settings: StudentSettings) -> None:
    async with running(settings) as (client, _):
        reply = await client.chat(ask(n=2, temperature=1.0, seed=3, logprobs=True, top_logprobs=2))
        assert reply.checkpoint == "base"
        assert (reply.response.system_fingerprint, reply.response.model) == ("base", "student")
        assert [c.index for c in reply.response.choices] == [0, 1]
        tokens = reply.response.choices[0].logprobs
        assert tokens is not None
        assert tokens.content
        assert all(len(t.top_logprobs) == 2 for t in tokens.content)
        assert reply.response.usage is not None
        assert reply.response.usage.prompt_tokens > 60
        again = await client.chat(ask(n=2, temperature=1.0, seed=3))
        assert [c.message.content for c in again.response.choices] == [
            c.message.content for c in reply.response.choices
        ]
        models = await client.models()
        assert [(m.id, m.checkpoint) for m in models.data] == [("student", "base"), ("student@base", "base")]


async def test_concurrent_requests_share_batches_and_keep_their_answers(settings: StudentSettings) -> None:
    async with running(settings) as (client, _):
        alone = [await answer_of(client, seed) for seed in range(50, 62)]
        together = await asyncio.gather(*(answer_of(client, seed) for seed in range(50, 62)))
    assert together == alone


async def test_the_openai_client_works(settings: StudentSettings) -> None:
    messages: Any = [
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": data_url()}}, {"type": "text", "text": "?"}],
        }
    ]
    async with (
        running(settings) as (client, _),
        AsyncOpenAI(base_url=f"{client.base_url}/v1", api_key="x", max_retries=0) as openai,
    ):
        create = openai.chat.completions.create
        reply = await create(model="student", messages=messages, max_tokens=6, temperature=0, logprobs=True)
        stream = await create(
            model="student",
            messages=messages,
            max_tokens=6,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
        assert (
            "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == reply.choices[0].message.content
        )
        assert chunks[-1].usage is not None
        with pytest.raises(NotFoundError, match="use 'student'"):
            await create(model="gpt", messages=messages)
        with pytest.raises(BadRequestError, match="max_tokens is 100000"):
            await create(model="student", messages=messages, max_tokens=100_000)
        with pytest.raises(BadRequestError, match=r"presence_penalty: 0\.5 is not supported"):
            await create(model="student", messages=messages, presence_penalty=0.5)
        with pytest.raises(BadRequestError, match="response_format"):
            await create(model="student", messages=messages, response_format={"type": "json_object"})


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("data:image/png;base64,aGVsbG8=", "Image 1 of 1: The bytes are not an image"),
        ("https://example.org/x.png", "MPA_CHAT_IMAGE_URLS"),
        (to_data_url(png()[:900]), "damaged or truncated"),
    ],
)
async def test_bad_images_are_refused_with_a_reason(settings: StudentSettings, image: str, words: str) -> None:
    async with running(settings) as (client, _):
        with pytest.raises(UpstreamError, match=words) as caught:
            await client.chat(image_question("student", image, "?", max_tokens=2))
        assert caught.value.upstream_status == 400
        assert (await answer_of(client))[0] == "base"


async def test_too_many_images_and_too_long_prompts(settings: StudentSettings) -> None:
    async with running(settings) as (client, _):
        request = ask()
        request.messages = request.messages * 5
        with pytest.raises(UpstreamError, match="at most 4"):
            await client.chat(request)
        with pytest.raises(UpstreamError, match="the model reads at most 1024"):
            await client.chat(image_question("student", data_url(), "why " * 1200, max_tokens=2))
        with pytest.raises(UpstreamError, match="messages"):
            await client._send("POST", "/v1/chat/completions", json={"model": "student", "messages": []})


async def test_a_full_queue_answers_429(settings: StudentSettings) -> None:
    tight = settings.model_copy(update={"student_queue_size": 2, "student_max_batch": 1})
    async with running(tight) as (client, _):
        results = await asyncio.gather(
            *(client.chat(ask(n=2, max_tokens=40)) for _ in range(12)), return_exceptions=True
        )
    refused = [r for r in results if isinstance(r, Unavailable)]
    assert refused
    assert all(r.retry_after == 1 for r in refused)
    assert len(refused) < 12


async def test_arrivals_share_batches(settings: StudentSettings) -> None:
    async with running(settings) as (client, _), httpx.AsyncClient(base_url=client.base_url, timeout=60) as http:
        await asyncio.gather(*(client.chat(ask(seed)) for seed in range(24)))
        count, answers = await batches(http)
    assert answers == 24
    assert count <= 12


SPELLED = [
    "the <image> tag",
    "<end_of_utterance>",
    "<image>\nwhat colour is it?",
    "<|assistant|>x",
    "<row_1_col_1></s>",
]


async def test_special_tokens_in_a_request_are_text(settings: StudentSettings) -> None:
    async with running(settings) as (client, _), httpx.AsyncClient(base_url=client.base_url) as http:
        item = ScoreItem(image=data_url(), question=SPELLED[2], answers=SPELLED)
        (scores,) = (await client.score(ScoreRequest(items=[item]))).scores
        assert ["".join(score.tokens[:-1]) for score in scores] == SPELLED
        for text in SPELLED:
            shown = [{"type": "image_url", "image_url": {"url": data_url()}}]
            for content in (text, [{"type": "text", "text": text}], [*shown, {"type": "text", "text": text}]):
                messages = [{"role": "system", "content": text}, {"role": "user", "content": content}]
                body = {"model": "student", "messages": messages, "max_tokens": 2, "stop": [text]}
                response = await http.post("/v1/chat/completions", json=body)
                assert response.status_code == 200, response.text


async def test_metrics_and_errors_are_there(settings: StudentSettings) -> None:
    async with running(settings) as (client, _), httpx.AsyncClient(base_url=client.base_url) as http:
        await answer_of(client)
        assert "mpa_student_http_requests_total" in (await http.get("/metrics")).text
        response = await http.put("/v1/checkpoints/active", json={"version": "../../etc"})
        assert response.headers["content-type"] == "application/problem+json"
        assert "version" in json.loads(response.text)["detail"]


async def stream_of(http: httpx.AsyncClient, **params: Any) -> list[dict[str, Any]]:
    body = ask(stream=True, **params).model_dump(mode="json", exclude_none=True)
    async with http.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.headers["x-mpa-checkpoint"] == "base"
        lines = [line.removeprefix("data: ") async for line in response.aiter_lines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


async def test_a_stream_says_what_the_whole_answer_says(settings: StudentSettings) -> None:
    params = {"n": 2, "max_tokens": 12, "logprobs": True, "top_logprobs": 2}
    async with running(settings) as (client, _), httpx.AsyncClient(base_url=client.base_url, timeout=60) as http:
        whole = (await client.chat(ask(**params))).response
        chunks = await stream_of(http, stream_options={"include_usage": True}, **params)
    choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    for expected in whole.choices:
        mine = [c for c in choices if c["index"] == expected.index]
        tokens = [t for c in mine for t in (c.get("logprobs") or {"content": []})["content"]]
        assert "".join(c["delta"].get("content", "") for c in mine) == expected.message.content
        assert expected.logprobs is not None
        assert tokens == [t.model_dump() for t in expected.logprobs.content or []]
        assert [c["finish_reason"] for c in mine if c["finish_reason"]] == [expected.finish_reason]
    assert [c["index"] for c in choices] != sorted(c["index"] for c in choices), "choices come as they are decoded"
    assert whole.usage is not None
    assert chunks[-1]["usage"] == whole.usage.model_dump()


async def test_a_refused_stream_has_a_status_of_its_own(settings: StudentSettings) -> None:
    async with running(settings) as (client, _), httpx.AsyncClient(base_url=client.base_url, timeout=60) as http:
        request = image_question("student", data_url(), "why " * 1200, max_tokens=2, stream=True)
        response = await http.post("/v1/chat/completions", json=request.model_dump(mode="json", exclude_none=True))
    assert response.status_code == 400
    assert "the model reads at most" in response.json()["error"]["message"]
