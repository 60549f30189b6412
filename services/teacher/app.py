"""Routes of the teacher service: OpenAI chat completions with images."""

from __future__ import annotations

import json
from collections.abc import Sequence

from fastapi import FastAPI, Request, Response

from services.teacher.components import engine_metrics, lifespan, readiness
from services.teacher.engine import TeacherEngine
from shared.contracts import (
    AttentionRequest,
    AttentionResponse,
    ChatMessage,
    ChatRequest,
    ChatResponse,
    ModelInfo,
    ModelList,
)
from shared.errors import Forbidden, NotFound
from shared.http import OPENAI_TAG, create_app, errors
from shared.http.disconnects import unless_gone
from shared.images import ImageLimits
from shared.serving.chat_request import CHAT_BODY, CHAT_RESPONSES, AskedChatDep
from shared.settings import TeacherSettings


def make_app(settings: TeacherSettings, engine: TeacherEngine | None = None) -> FastAPI:
    """The service. ``engine`` is made from the settings if none is given; it starts and stops with the app."""
    app = create_app(
        "teacher",
        settings,
        lifespan=lifespan(settings, engine),
        ready=readiness(settings),
        openai_errors=True,
        more_metrics=engine_metrics,
    )

    @app.post(
        "/v1/chat/completions",
        tags=[OPENAI_TAG],
        response_model=ChatResponse,
        responses=CHAT_RESPONSES,
        openapi_extra=CHAT_BODY,
    )
    async def chat(given: AskedChatDep, request: Request) -> Response:
        """Answer a chat that may hold images, as data URLs or, where the settings allow that, as web addresses."""
        asked, body = given.request, given.body
        if asked.model != settings.teacher_name:
            raise NotFound(f"There is no model {asked.model!r} here: ask {settings.teacher_name!r}.")
        messages, _ = await request.app.state.images.read_aside(asked.messages)
        if list(messages) != asked.messages:
            asked, body = _with_messages(asked, body, messages)
        running: TeacherEngine = app.state.engine
        return await unless_gone(request, running.answer(asked, body))

    @app.post("/v1/attention", tags=["probe"], responses=errors(403, 404, 503))
    async def measure_attention(body: AttentionRequest, request: Request) -> AttentionResponse:
        """Where the teacher looks while it gives answers, measured on a transformers copy of it."""
        probe = request.app.state.probe
        if probe is None:
            raise Forbidden("The attention probe is off here: ask the operator to set MPA_ATTENTION_PROBE=true.")
        from shared.vlm.attention_route import answer_attention

        return await answer_attention(probe, body, ImageLimits.from_settings(settings))

    @app.get("/v1/models", tags=[OPENAI_TAG])
    async def list_models() -> ModelList:
        """The one model."""
        return ModelList(data=[ModelInfo(id=settings.teacher_name)])

    return app


def _with_messages(asked: ChatRequest, body: bytes, messages: Sequence[ChatMessage]) -> tuple[ChatRequest, bytes]:
    """The request with images in place of their addresses, because the model server must never fetch one."""
    content = json.loads(body)
    content["messages"] = [message.model_dump(mode="json", exclude_none=True) for message in messages]
    return asked.model_copy(update={"messages": list(messages)}), json.dumps(content).encode()
