"""The teacher's HTTP face: OpenAI chat completions with images."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response
from pydantic import ValidationError

from services.teacher.engine import Engine
from services.teacher.vllm_engine import VllmEngine
from shared.contracts import (
    AttentionRequest,
    AttentionResponse,
    ChatMessage,
    ChatRequest,
    Health,
    ModelInfo,
    ModelList,
)
from shared.errors import Forbidden, NotFound
from shared.http import create_app, invalid_fields
from shared.http.disconnects import unless_gone
from shared.images import ImageLimits
from shared.images.chat import ChatImages
from shared.settings import TeacherSettings

if TYPE_CHECKING:
    from shared.vlm.probe import AttentionProbe


def make_app(settings: TeacherSettings, engine: Engine | None = None) -> FastAPI:
    """The service; ``engine`` is made from the settings where none is given. It starts and stops with the app."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.engine = running = engine or make_engine(settings)
        app.state.images = images = ChatImages(
            settings, max_images=settings.teacher_max_images, setting="MPA_TEACHER_MAX_IMAGES"
        )
        app.state.probe = probe = make_probe(settings) if settings.attention_probe else None
        await running.start()
        try:
            yield
        finally:
            if probe is not None:
                await probe.aclose()
            await running.stop()
            images.close()

    async def ready(app: FastAPI) -> Health:
        running: Engine = app.state.engine
        details = {"model": settings.teacher_model, "attention": settings.attention_probe, **running.details}
        return Health(service="teacher", ready=running.ready, reason=running.reason, details=details)

    async def metrics(app: FastAPI) -> bytes:
        running: Engine = app.state.engine
        return await running.metrics()

    app = create_app("teacher", settings, lifespan=lifespan, ready=ready, openai_errors=True, more_metrics=metrics)

    @app.post("/v1/chat/completions", tags=["chat"])
    async def chat(request: Request) -> Response:
        """Answer a chat that may hold images, as data URLs or, where the settings allow that, as web addresses."""
        body = await request.body()
        asked = parse_chat(body)
        if asked.model != settings.teacher_name:
            raise NotFound(f"There is no model {asked.model!r} here: ask {settings.teacher_name!r}.")
        messages, _ = await request.app.state.images.read_aside(asked.messages)
        if list(messages) != asked.messages:
            asked, body = _with_messages(asked, body, messages)
        running: Engine = app.state.engine
        return await unless_gone(request, running.answer(asked, body))

    @app.post("/v1/attention", tags=["probe"])
    async def attention(body: AttentionRequest, request: Request) -> AttentionResponse:
        """Where the teacher looks while it gives answers, measured on a transformers copy of it."""
        probe = request.app.state.probe
        if probe is None:
            raise Forbidden("The attention probe is off here: have the operator set MPA_ATTENTION_PROBE=true.")
        from shared.vlm.attention_route import answer_attention

        return await answer_attention(probe, body, ImageLimits.from_settings(settings))

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


def make_probe(settings: TeacherSettings) -> AttentionProbe:
    """vLLM gives no attention weights, so the probe runs a copy of the model on transformers, imported only here."""
    from shared.vlm.loading import local_folder
    from shared.vlm.probe import AttentionProbe

    return AttentionProbe(
        lambda: (settings.teacher_model, local_folder(settings.teacher_model)),
        dtype="float32" if settings.teacher_dtype == "auto" else settings.teacher_dtype,
        device="auto",
        idle=settings.attention_idle.total_seconds(),
        torch_threads=settings.torch_threads,
        trust_remote_code=settings.trust_remote_code,
    )


def parse_chat(body: bytes) -> ChatRequest:
    """Raises InvalidInput naming the fields that are wrong."""
    try:
        return ChatRequest.model_validate_json(body)
    except ValidationError as error:
        raise invalid_fields(error.errors(include_url=False, include_input=False)) from error


def _with_messages(asked: ChatRequest, body: bytes, messages: Sequence[ChatMessage]) -> tuple[ChatRequest, bytes]:
    """The request with fetched images in place of their addresses: the model server must never fetch one."""
    content = json.loads(body)
    content["messages"] = [message.model_dump(mode="json", exclude_none=True) for message in messages]
    return asked.model_copy(update={"messages": list(messages)}), json.dumps(content).encode()
