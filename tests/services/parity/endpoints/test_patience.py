"""A server's bad minute makes calls wait; only a request that fails alone, while others pass, is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response

from services.parity.endpoints.endpoint import Endpoint
from services.parity.endpoints.evidence import Health, RetryPolicy
from services.parity.endpoints.limiter import Limiter
from services.parity.endpoints.patience import RequestRefused
from shared.client import ChatClient, image_question
from shared.concurrency import run_all
from shared.contracts import AttentionItem, AttentionRequest, ChatRequest, ScoreItem, ScoreRequest
from shared.errors import Unavailable
from tests.polling import async_wait_until
from tests.quick_server import ServerThread
from tests.scripted_models import Body, completion

POLICY = RetryPolicy(first=0.01, longest=0.04, longest_asked=0.04, settled=0.3, settled_in_words=0.1)
GOOD = "say it"
ANSWER = completion(["yes"])
Reply = Callable[[str], Response | None]


def _json(body: Any, status: int = 200) -> Response:
    return Response(json.dumps(body), status, media_type="application/json")


def _changed(**choice: Any) -> Response:
    return _json({**ANSWER, "choices": [{**ANSWER["choices"][0], **choice}]})


def _error(status: int, words: str = "the node is going down", **headers: str) -> Response:
    response = _json({"error": {"message": words}}, status)
    response.headers.update(headers)
    return response


NAN = {"content": [{"token": "yes", "logprob": float("nan")}]}
OUTAGES: dict[str, Callable[[], Response]] = {
    **{str(status): lambda status=status: _error(status) for status in (401, 402, 403, 404, 405, 408, 409, 410, 421)},  # type: ignore[misc]
    **{str(status): lambda status=status: _error(status) for status in (425, 451, 500, 501, 502, 503, 504, 520)},  # type: ignore[misc]
    **{str(status): lambda status=status: _error(status) for status in (400, 413, 415, 422)},  # type: ignore[misc]
    "400 about the image": lambda: _error(400, "the image cannot be read"),
    "422 about tokens": lambda: _error(422, "too many tokens"),
    "429": lambda: _error(429, **{"Retry-After": "0.01"}),
    "wrong model": lambda: _error(404, "The model `m` does not exist."),
    "a page": lambda: Response("<html><body>It works!</body></html>", media_type="text/html"),
    "a page with 400": lambda: Response("<html><title>400 image</title></html>", 400, media_type="text/html"),
    "a redirect": lambda: Response("", 302, {"Location": "/login"}),
    "nothing": lambda: Response("", 200),
    "no content": lambda: Response(status_code=204),
    "garbage": lambda: Response(b"\x00\xff\x17" * 9, media_type="application/json"),
    "half a body": lambda: Response(json.dumps(ANSWER)[:-40], media_type="application/json"),
    "a list": lambda: _json([]),
    "null": lambda: _json(None),
    "an error with 200": lambda: _json({"error": {"message": "overloaded"}}),
    "no choices": lambda: _json({**ANSWER, "choices": []}),
    "NaN": lambda: _changed(logprobs=NAN),
    "broken off": lambda: _changed(finish_reason="abort"),
    "failed": lambda: _changed(finish_reason="error"),
}


class Server:
    """Answers with what ``reply`` makes of the question, or with a good answer if that is None."""

    def __init__(self) -> None:
        self.reply: Reply = lambda text: None
        self.asked: list[str] = []

    def app(self) -> FastAPI:
        app = FastAPI()

        async def answer(request: Request) -> Response:
            body: Body = await request.json()
            items = body.get("items")
            text = items[0]["question"] if items else body["messages"][-1]["content"][1]["text"]
            self.asked.append(text)
            return self.reply(text) or _json(_good(request.url.path))

        for path in ("/v1/chat/completions", "/v1/score", "/v1/attention"):
            app.post(path)(answer)
        return app


def _good(path: str) -> Body:
    score = {"answer": "a", "logprob": -1.0, "mean_logprob": -1.0, "tokens": ["a"], "token_logprobs": [-1.0]}
    return {
        "/v1/score": {"checkpoint": "base", "scores": [[score]]},
        "/v1/attention": {"version": "base", "layers": [1], "maps": [{"values": [[1.0]], "image_share": 0.5}]},
    }.get(path, ANSWER)


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, Endpoint]]:
    model = Server()
    running = ServerThread(model.app())
    async with ChatClient(running.url, model="m", timeout=10) as client:
        yield model, Endpoint("teacher", client, Limiter("teacher", 8), asyncio.Event(), POLICY)
    running.leave()


def ask(text: str = GOOD) -> ChatRequest:
    return image_question("m", "data:image/png;base64,AAAA", text, max_tokens=5, logprobs=True)


@pytest.mark.parametrize("kind", OUTAGES)
async def test_whatever_a_server_sends_to_all_is_an_outage(server: tuple[Server, Endpoint], kind: str) -> None:
    model, endpoint = server
    model.reply = lambda text: OUTAGES[kind]()
    asking = asyncio.create_task(run_all(*(endpoint.chat(ask(str(number))) for number in range(3))))
    await async_wait_until(lambda: _true(len(model.asked) > 24))
    assert not asking.done()
    assert (endpoint.waiting_for or "").startswith("teacher at http://")
    model.reply = lambda text: None
    assert [reply.response.choices[0].message.content for reply in await asking] == ["yes"] * 3
    assert endpoint.waiting_for is None


@pytest.mark.parametrize("kind", [kind for kind in OUTAGES if kind != "429"])
async def test_a_request_that_fails_alone_is_refused_with_the_servers_words(
    server: tuple[Server, Endpoint], kind: str
) -> None:
    model, endpoint = server
    model.reply = lambda text: OUTAGES[kind]() if text == "poison" else None
    await endpoint.chat(ask())
    with pytest.raises(RequestRefused) as refused:
        await endpoint.chat(ask("poison"))
    assert model.asked.count("poison") > 2
    assert model.asked.count(GOOD) > 2  # nobody else asks, so a request that passed before is the probe
    words = json.loads(bytes(OUTAGES[kind]().body)) if kind.isdigit() else {}
    assert words.get("error", {"message": ""})["message"] in refused.value.detail


async def test_the_first_request_of_all_may_be_the_poison(server: tuple[Server, Endpoint]) -> None:
    model, endpoint = server
    model.reply = lambda text: _error(500, "CUDA error") if text == "poison" else None
    with pytest.raises(RequestRefused, match=r"answered other requests but never this one \(.* CUDA error"):
        await endpoint.chat(ask("poison"))


async def test_a_request_that_is_turned_away_is_asked_for_ever(server: tuple[Server, Endpoint]) -> None:
    model, endpoint = server
    model.reply = lambda text: _error(429) if text == "unlucky" and model.asked.count("unlucky") < 50 else None
    asking = asyncio.create_task(endpoint.chat(ask("unlucky")))
    while not asking.done():
        await endpoint.chat(ask())
    assert (await asking).response.choices


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("status", [500, 400])
async def test_a_server_that_fails_at_random_refuses_nothing(
    server: tuple[Server, Endpoint], seed: int, status: int
) -> None:
    """Half of all calls fail for a while: requests fail again and again while others pass, but none fails alone."""
    model, endpoint = server
    words = "the image is unreadable" if status == 400 else "oops"
    state = seed

    def reply(text: str) -> Response | None:
        nonlocal state
        state = (state * 1103515245 + 12345) % 2**31
        return _error(status, words) if state >> 16 & 1 and len(model.asked) < 200 else None

    model.reply = reply
    for start in range(0, 200, 40):
        replies = await run_all(*(endpoint.chat(ask(f"{start} {number}")) for number in range(40)))
        assert len(replies) == 40


async def test_neighbours_of_a_poison_that_kills_the_server_are_answered(server: tuple[Server, Endpoint]) -> None:
    """The poison ends all calls in flight, and the server takes a while to come back: a crash loop."""
    model, endpoint = server
    up_at = 0.0

    def reply(text: str) -> Response | None:
        nonlocal up_at
        now = asyncio.get_running_loop().time()
        if text == "poison" and now >= up_at:
            up_at = now + 0.05
        return _error(503, "the engine died") if now < up_at else None

    model.reply = reply

    async def others(lane: int) -> int:
        for number in range(60):
            await endpoint.chat(ask(f"{lane} {number}"))
        return lane

    async def poison() -> str:
        with pytest.raises(RequestRefused) as refused:
            await endpoint.chat(ask("poison"))
        return refused.value.detail

    *lanes, words = await run_all(*(others(lane) for lane in range(4)), poison())  # type: ignore[arg-type]
    assert lanes == [0, 1, 2, 3] and "the engine died" in words


async def test_words_that_were_right_before_are_believed_sooner(server: tuple[Server, Endpoint]) -> None:
    model, endpoint = server
    model.reply = lambda text: _error(400, f"{len(text)} tokens are too many") if text.startswith("long") else None
    for text in ("long", "long as well"):
        with pytest.raises(RequestRefused, match="tokens are too many"):
            await endpoint.chat(ask(text))
    assert model.asked.count("long as well") < model.asked.count("long")


async def test_all_shards_of_a_process_share_what_they_know(server: tuple[Server, Endpoint]) -> None:
    model, endpoint = server
    health = Health()
    model.reply = lambda text: _error(500) if text == "poison" else None
    one, other = (
        Endpoint("teacher", endpoint.client, Limiter("teacher", 8), asyncio.Event(), POLICY, health=health)
        for _ in range(2)
    )
    asking = asyncio.create_task(one.chat(ask("poison")))
    while not asking.done():
        await other.chat(ask())
    with pytest.raises(RequestRefused):
        await asking
    assert "What colour is it?" not in model.asked


@pytest.mark.parametrize("status", [403, 404, 405, 501])
async def test_a_route_that_the_server_lacks_is_found_out_once(server: tuple[Server, Endpoint], status: int) -> None:
    model, endpoint = server
    scores = ScoreRequest(items=[ScoreItem(image="i", question="score", answers=["a"])])
    model.reply = lambda text: _error(status, "Not Found") if text == "score" else None
    for _ in range(2):
        with pytest.raises(RequestRefused, match="Not Found"):
            await endpoint.score(scores)
        asked = model.asked.count("score")
    assert asked == model.asked.count("score") > 1
    assert (await endpoint.chat(ask())).response.choices


@pytest.mark.parametrize(
    "broken",
    [
        {"scores": []},
        {"scores": [[]]},
        {"maps": []},
        {"maps": [{"values": [[float("nan")]], "image_share": 0.5}]},
        {"scores": [[{"answer": "a", "logprob": 0, "mean_logprob": float("nan"), "tokens": [], "token_logprobs": []}]]},
    ],
)
async def test_scores_and_maps_are_checked_too(server: tuple[Server, Endpoint], broken: Body) -> None:
    model, endpoint = server
    path = "/v1/score" if "scores" in broken else "/v1/attention"
    model.reply = lambda text: _json({**_good(path), **broken}) if len(model.asked) < 12 else None
    if "scores" in broken:
        scored = await endpoint.score(ScoreRequest(items=[ScoreItem(image="i", question="q", answers=["a"])]))
        assert scored.scores[0][0].mean_logprob == -1.0
    else:
        item = AttentionItem(image="i", question="q", answer="a")
        assert (await endpoint.attention(AttentionRequest(items=[item]))).maps[0].values == [[1.0]]
    assert len(model.asked) >= 12


async def test_a_server_that_is_away_is_asked_ever_more_rarely_until_it_answers(
    server: tuple[Server, Endpoint],
) -> None:
    model, endpoint = server
    slow = RetryPolicy(first=0.01, longest=600.0)
    patient = Endpoint("teacher", endpoint.client, Limiter("teacher", 8), asyncio.Event(), slow)
    model.reply = lambda text: _error(503)
    asking = [asyncio.create_task(patient.chat(ask(str(number)))) for number in range(4)]
    await async_wait_until(lambda: _true(len(model.asked) > 20))
    model.reply = lambda text: None
    asking[0].cancel()
    # The first call that passes wakes the others, however long their pauses have become.
    async with asyncio.timeout(20):
        await run_all(*(_answered(task) for task in asking[1:]))


async def _answered(task: asyncio.Task[Any]) -> None:
    await task


async def test_a_server_that_nobody_reaches_is_waited_for(server: tuple[Server, Endpoint]) -> None:
    model, _ = server
    gone = ServerThread(model.app())
    gone.stop()
    async with ChatClient(gone.url, model="m", timeout=1) as client:
        endpoint = Endpoint("teacher", client, Limiter("teacher", 8), asyncio.Event(), POLICY)
        with pytest.raises(Unavailable):
            await client.chat(ask())
        asking = asyncio.create_task(endpoint.chat(ask()))
        await async_wait_until(lambda: _true(endpoint.waiting_for is not None))
        back = ServerThread(model.app(), gone.port)
        assert (await asking).response.choices
        back.leave()


async def _true(value: bool) -> bool:
    return value
