"""The chat client against a real HTTP server: the checkpoint's name and readiness."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from shared.client import ChatClient
from tests.quick_server import serving
from tests.shared.client.asking import answering, ask


async def test_answer_and_checkpoint() -> None:
    body = {"choices": [{"message": {"content": "a dog"}, "surprise": 1}], "extra": True}
    async with serving(answering(JSONResponse(body, headers={"X-MPA-Checkpoint": "base"}))) as url:
        assert await ask(url) == "a dog by base"
        assert await ask(url + "/v1") == "a dog by base"


async def test_readiness_of_foreign_endpoints_asks_for_models() -> None:
    app = FastAPI()

    @app.get("/v1/models")
    async def models() -> dict[str, object]:
        return {"object": "list", "data": [{"id": "gpt"}]}

    async with serving(app) as url, ChatClient(url, model="gpt") as client:
        assert await client.ready()
