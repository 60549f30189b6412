"""Routes of the student service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from services.student.chat import build_response, read_question, read_samplings, stream_chunks
from services.student.engine import Answered, Engine
from services.student.rollout import Rollout, Verified
from services.student.scoring import score_items
from services.student.transformers_engine import TransformersEngine
from shared.checkpoints import CheckpointRegistry
from shared.client import CHECKPOINT_HEADER
from shared.contracts import (
    ActivateRequest,
    ChatRequest,
    ChatResponse,
    CheckpointList,
    Health,
    ModelInfo,
    ModelList,
    ScoreRequest,
    ScoreResponse,
    SwapResult,
)
from shared.errors import Unavailable
from shared.http import create_app
from shared.settings import StudentSettings
from shared.store import Store
from shared.vlm.loading import local_folder


def rollout_of(request: Request) -> Rollout:
    rollout: Rollout = request.app.state.rollout
    return rollout


RolloutDep = Annotated[Rollout, Depends(rollout_of)]


def build_app(settings: StudentSettings) -> FastAPI:
    """The student service; the engine is loaded in the lifespan, so a bad start ends the process with its reason."""
    app = create_app(
        "student", settings, lifespan=_lifespan(settings), ready=lambda app: _readiness(app), openai_errors=True
    )

    @app.post("/v1/chat/completions", response_model=None)
    async def chat(body: ChatRequest, rollout: RolloutDep) -> Response | ChatResponse:
        """OpenAI chat completions with images."""
        samplings = read_samplings(body, settings)
        question = await asyncio.to_thread(read_question, body.messages, settings)
        try:
            async with asyncio.timeout(settings.student_request_timeout.total_seconds()):
                answered = await rollout.engine.answer(question, samplings)
        except TimeoutError as error:
            raise Unavailable("The student did not answer in time: retry, or lower the load.", retry_after=1) from error
        headers = {CHECKPOINT_HEADER: answered.version}
        if body.stream:
            return StreamingResponse(_events(body, answered), media_type="text/event-stream", headers=headers)
        response = build_response(body, answered)
        return Response(response.model_dump_json(), media_type="application/json", headers=headers)

    @app.post("/v1/score", response_model=ScoreResponse)
    async def score(body: ScoreRequest, response: Response, rollout: RolloutDep) -> ScoreResponse:
        """Log-probabilities of given answers."""
        scored = await score_items(rollout.engine, body, settings)
        response.headers[CHECKPOINT_HEADER] = scored.checkpoint
        return scored

    @app.get("/v1/models")
    async def models(rollout: RolloutDep) -> ModelList:
        """The student, and the checkpoint it runs."""
        return ModelList(data=[ModelInfo(id=settings.student_name, checkpoint=rollout.engine.version)])

    @app.get("/v1/checkpoints")
    async def checkpoints(rollout: RolloutDep) -> CheckpointList:
        """All versions in the registry."""
        return await rollout.checkpoints()

    @app.put("/v1/checkpoints/active")
    async def activate(body: ActivateRequest, rollout: RolloutDep) -> SwapResult:
        """Swap; answers when the version serves."""
        return await rollout.activate(body.version, body.by)

    @app.post("/v1/checkpoints/rollback")
    async def rollback(rollout: RolloutDep) -> SwapResult:
        """Back to the version that was active before."""
        return await rollout.rollback("api")

    return app


def _lifespan(settings: StudentSettings):  # type: ignore[no-untyped-def]
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        registry = CheckpointRegistry(Store(settings.store_url, settings.data_dir / "cache"), settings.student_name)
        base: Path = await asyncio.to_thread(local_folder, settings.student_model)

        async def start(candidate: Verified) -> Engine:
            return await TransformersEngine.start(settings, candidate.version, candidate.folder, candidate.smoke)

        rollout = await Rollout.start(registry, base, start, timeout=settings.student_swap_timeout)
        app.state.rollout = rollout
        follower = asyncio.create_task(rollout.follow())
        yield
        follower.cancel()
        with suppress(asyncio.CancelledError):
            await follower
        await rollout.engine.close()

    return lifespan


async def _readiness(app: FastAPI) -> Health:
    rollout: Rollout | None = getattr(app.state, "rollout", None)
    if rollout is None:
        return Health(service="student", ready=False, reason="The model is loading.")
    details = {"checkpoint": rollout.engine.version, "queued": rollout.engine.queued}
    return Health(service="student", ready=rollout.engine.alive, reason=rollout.problem, details=details)


async def _events(request: ChatRequest, answered: Answered) -> AsyncIterator[str]:
    for chunk in stream_chunks(request, answered):
        yield f"data: {json.dumps(chunk)}\n\n"
    yield "data: [DONE]\n\n"
