"""A small chat server over real HTTP, and one question to it."""

from __future__ import annotations

from fastapi import FastAPI, Response

from shared.client import ChatClient, image_question

URL = "data:image/png;base64,AAAA"


def answering(response: Response) -> FastAPI:
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def chat() -> Response:
        return response

    return app


async def ask(url: str, timeout: float = 5.0) -> str:
    async with ChatClient(url, model="m", timeout=timeout) as client:
        reply = await client.chat(image_question("m", URL, "what?"))
    return f"{reply.response.choices[0].message.content} by {reply.checkpoint}"
