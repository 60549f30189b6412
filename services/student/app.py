"""Routes of the student service."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from services.student.api import rollout as rollout_routes
from services.student.api.chat import read_conversation, read_samplings, wanted_version
from services.student.api.scoring import score_items
from services.student.api.waiting import finish
from services.student.components import engine_metrics, lifespan, ready
from services.student.rollout.canary.routing import Router
from services.student.rollout.swap import Rollout
from shared.client import CHECKPOINT_HEADER
from shared.contracts import (
    ActivateRequest,
    AttentionRequest,
    AttentionResponse,
    ChatResponse,
    CheckpointList,
    ModelInfo,
    ModelList,
    ScoreRequest,
    ScoreResponse,
    SwapResult,
)
from shared.http import OPENAI_TAG, create_app, errors
from shared.images import ImageLimits
from shared.serving.answers import build_response, stream_events
from shared.serving.chat_request import CHAT_BODY, CHAT_RESPONSES, AskedChatDep
from shared.settings import StudentSettings
from shared.sse import MEDIA_TYPE
from shared.vlm.attention_route import answer_attention


def rollout_of(request: Request) -> Rollout:
    rollout: Rollout = request.app.state.rollout
    return rollout


def router_of(request: Request) -> Router:
    router: Router = request.app.state.router
    return router


RolloutDep = Annotated[Rollout, Depends(rollout_of)]
RouterDep = Annotated[Router, Depends(router_of)]


def build_app(settings: StudentSettings) -> FastAPI:
    """The student service. It loads its engine when it starts, so a bad start ends the process with the reason."""
    app = create_app(
        "student",
        settings,
        lifespan=lifespan(settings),
        ready=ready,
        openai_errors=True,
        more_metrics=engine_metrics,
    )
    limit = settings.student_request_timeout.total_seconds()

    @app.post(
        "/v1/chat/completions",
        tags=[OPENAI_TAG],
        response_model=ChatResponse,
        responses=CHAT_RESPONSES,
        openapi_extra=CHAT_BODY,
    )
    async def chat(asked: AskedChatDep, request: Request, router: RouterDep) -> Response:
        """OpenAI chat completions with images."""
        body = asked.request
        samplings = read_samplings(body, settings)
        version = wanted_version(body.model)
        answering = router if version is None else router.engine_for(version)
        question = await read_conversation(body.messages, request.app.state.images)
        if body.stream:
            pieces = answering.stream(question, samplings)
            first = await finish(request, limit, anext(pieces))
            request.app.state.tap.offer(question, first.version)
            headers = {CHECKPOINT_HEADER: first.version}
            return StreamingResponse(stream_events(body, first, pieces), media_type=MEDIA_TYPE, headers=headers)
        answered = await finish(request, limit, answering.answer(question, samplings))
        request.app.state.tap.offer(question, answered.version)
        response = build_response(body, answered.answers, answered.version)
        headers = {CHECKPOINT_HEADER: answered.version}
        return Response(response.model_dump_json(), media_type="application/json", headers=headers)

    @app.post("/v1/score", tags=["probe"], response_model=ScoreResponse, responses=errors(404, 429, 502, 503))
    async def score(
        body: ScoreRequest, request: Request, response: Response, rollout: RolloutDep, router: RouterDep
    ) -> ScoreResponse:
        """Log-probabilities of given answers."""
        version = wanted_version(body.model)
        engine = rollout.engine if version is None else router.engine_for(version)
        scored = await finish(request, limit, score_items(engine, body, request.app.state.images))
        response.headers[CHECKPOINT_HEADER] = scored.checkpoint
        return scored

    @app.post("/v1/attention", tags=["probe"], responses=errors(403, 404, 503))
    async def measure_attention(body: AttentionRequest, request: Request, router: RouterDep) -> AttentionResponse:
        """Where the serving checkpoint looks while it gives answers."""
        version = wanted_version(body.model)
        served = None if version is None else router.engine_for(version).version
        source = None if served is None else (served, request.app.state.registry.local(served))
        return await answer_attention(request.app.state.probe, body, ImageLimits.from_settings(settings), source)

    @app.get("/v1/models", tags=[OPENAI_TAG], responses=errors(503))
    async def list_models(rollout: RolloutDep) -> ModelList:
        """The student with the checkpoint it runs, and all versions that it could run."""
        serving, name = rollout.engine.version, settings.student_name
        known = (await rollout.checkpoints()).checkpoints
        versions = [
            ModelInfo(id=f"{name}@{c.version}", checkpoint=c.version, active=c.version == serving) for c in known
        ]
        return ModelList(data=[ModelInfo(id=name, checkpoint=serving, active=True), *versions])

    @app.get("/v1/checkpoints", tags=["checkpoints"], responses=errors(409, 503))
    async def list_checkpoints(rollout: RolloutDep) -> CheckpointList:
        """All versions in the registry."""
        return await rollout.checkpoints()

    @app.put("/v1/checkpoints/active", tags=["checkpoints"], responses=errors(404, 409, 503))
    async def activate_checkpoint(body: ActivateRequest, rollout: RolloutDep) -> SwapResult:
        """Swap to another version. Answers when that version serves."""
        return await rollout.activate(body.version, body.by, body.deadline_seconds)

    @app.post("/v1/checkpoints/rollback", tags=["checkpoints"], responses=errors(404, 409, 422, 503))
    async def roll_back(rollout: RolloutDep) -> SwapResult:
        """Swap back to the version that was active before."""
        return await rollout.rollback("api")

    app.include_router(rollout_routes.router)
    return app
