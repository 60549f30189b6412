"""The teacher's HTTP face: OpenAI chat completions with images."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from pydantic import ValidationError

from services.teacher.engine import Engine
from services.teacher.vllm_engine import VllmEngine
from shared.contracts import ChatRequest, Health, ImagePart, ModelInfo, ModelList
from shared.errors import InvalidInput, NotFound
from shared.http import create_app, describe_validation
from shared.images import ImageLimits, decode_image, from_data_url
from shared.settings import TeacherSettings

CLIENT_LEFT = Response(status_code=499)


def make_app(settings: TeacherSettings, engine: Engine | None = None) -> FastAPI:
    """The service; ``engine`` is made from the settings where none is given. It starts and stops with the app."""
    limits = ImageLimits.from_settings(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.engine = running = engine or make_engine(settings)
        await running.start()
        try:
            yield
        finally:
            await running.stop()

    async def ready(app: FastAPI) -> Health:
        running: Engine = app.state.engine
        details = {"model": settings.teacher_model, **running.details}
        return Health(service="teacher", ready=running.ready, reason=running.reason, details=details)

    async def metrics(app: FastAPI) -> bytes:
        running: Engine = app.state.engine
        return await running.metrics()

    app = create_app("teacher", settings, lifespan=lifespan, ready=ready, openai_errors=True, more_metrics=metrics)

    @app.post("/v1/chat/completions", tags=["chat"])
    async def chat(request: Request) -> Response:
        """Answer a chat that may hold images (as data URLs)."""
        body = await request.body()
        asked = parse_chat(body)
        if asked.model != settings.teacher_name:
            raise NotFound(f"There is no model {asked.model!r} here: ask {settings.teacher_name!r}.")
        await asyncio.to_thread(check_images, asked, limits)
        running: Engine = app.state.engine
        return await _unless_client_leaves(request, running, asked, body)

    @app.get("/v1/models", tags=["chat"])
    async def models() -> ModelList:
        """The one model."""
        return ModelList(data=[ModelInfo(id=settings.teacher_name)])

    return app


def make_engine(settings: TeacherSettings) -> Engine:
    """The engine that ``MPA_TEACHER_ENGINE`` names. Transformers is imported only where it is used."""
    if settings.teacher_engine == "vllm":
        return VllmEngine.from_settings(settings)
    from services.teacher.transformers_engine import TransformersEngine

    return TransformersEngine(settings)


def parse_chat(body: bytes) -> ChatRequest:
    """Raises InvalidInput naming the fields that are wrong."""
    try:
        return ChatRequest.model_validate_json(body)
    except ValidationError as error:
        raise InvalidInput(describe_validation(error.errors(include_url=False, include_input=False))) from error


def check_images(asked: ChatRequest, limits: ImageLimits) -> None:
    """Only readable images in data URLs pass: the server must never fetch a URL that a client chose."""
    for message in asked.messages:
        for part in message.content if isinstance(message.content, list) else []:
            if isinstance(part, ImagePart):
                decode_image(from_data_url(part.image_url.url), limits)


async def _unless_client_leaves(request: Request, engine: Engine, asked: ChatRequest, body: bytes) -> Response:
    """The engine's answer; a client that hangs up cancels the work."""
    answering = asyncio.create_task(engine.answer(asked, body))
    leaving = asyncio.create_task(_client_leaves(request))
    try:
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        return answering.result() if answering.done() else CLIENT_LEFT
    finally:
        answering.cancel()
        leaving.cancel()


async def _client_leaves(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
