"""Requests to vLLM: when one of a question's calls fails, vLLM stops working on the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from services.student.engines.base import UNWATCHED, Conversation
from services.student.engines.vllm.adapters import Served
from services.student.engines.vllm.requests import VllmRequests
from services.student.engines.vllm.server import VllmChild
from shared.contracts import ChatMessage
from shared.errors import InvalidInput
from shared.settings import StudentSettings
from shared.vlm.loading import load_processor
from shared.vlm.sampling import Sampling
from tests.polling import async_wait_until
from tests.quick_server import serving

CALLS = 4
ASKED = Conversation((ChatMessage(role="user", content="what is this?"),), ())
SAMPLINGS = [Sampling(4, seed=seed) for seed in range(CALLS)]
TEXTS = [f"answer {number}" for number in range(CALLS)]


@dataclass
class HalfBroken:
    """A chat endpoint that refuses the first of `CALLS` calls once all are there, and answers none of the others."""

    calls: int = 0
    hung_up: int = 0
    all_there: asyncio.Event = field(default_factory=asyncio.Event)

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/v1/chat/completions")
        async def chat(request: Request) -> JSONResponse:
            body = await request.json()
            self.calls += 1
            if self.calls == CALLS:
                self.all_there.set()
            await self.all_there.wait()
            if body.get("seed") == 0 or body["messages"][-1]["content"] == TEXTS[0]:
                return JSONResponse({"error": {"message": "not this one"}}, 400)
            while (await request.receive())["type"] != "http.disconnect":
                pass
            self.hung_up += 1
            return JSONResponse({})

        return app


@dataclass
class Reached:
    """The part of `ModelServer` that requests use, for a server that needs no supervision."""

    base_url: str
    ready: bool = True
    reads_escapes: bool = True

    def saw_answer(self) -> None: ...

    def saw_failure(self) -> None: ...


Ask = Callable[[VllmRequests, Served], Awaitable[Any]]


async def drained(requests: VllmRequests, served: Served) -> None:
    async for _ in requests.stream(lambda: served, ASKED, SAMPLINGS):
        pass


@pytest.mark.parametrize(
    "ask",
    [
        lambda requests, served: requests.answer(lambda: served, ASKED, SAMPLINGS),
        drained,
        lambda requests, served: requests.score(lambda: served, [(ASKED, TEXTS), (ASKED, TEXTS)]),
    ],
    ids=["answer", "stream", "score"],
)
async def test_a_failed_call_ends_the_other_calls_of_its_request(ask: Ask, base: Path, tmp_path: Path) -> None:
    settings = StudentSettings(data_dir=tmp_path)
    server, served = HalfBroken(), Served("base", tmp_path, "student")
    async with serving(server.app()) as url:
        child = VllmChild(settings, lambda: tmp_path)
        child.server = Reached(url)  # type: ignore[assignment]
        requests = VllmRequests(settings, child, load_processor(base), (), UNWATCHED)
        try:
            with pytest.raises(InvalidInput, match="not this one"):
                await asyncio.wait_for(ask(requests, served), 20)

            async def all_left() -> bool:
                return server.hung_up == CALLS - 1

            await async_wait_until(all_left, 10)
            assert server.calls == CALLS, "nothing is asked after a failure"
            assert (requests.in_work, served.idle.is_set()) == (0, True)
            async with asyncio.timeout(5), requests.gate.closed():
                pass
        finally:
            await child._http.aclose()
