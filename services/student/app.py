"""Routes of the student service."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Annotated, TypeVar

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from services.student.api import rollout as rollout_routes
from services.student.api.chat import (
    as_openai_error,
    build_response,
    read_question,
    read_samplings,
    stream_chunks,
    wanted_version,
)
from services.student.api.disconnects import unless_gone
from services.student.api.scoring import score_items
from services.student.engines.base import Answered, Engine
from services.student.engines.metrics import EngineMetrics
from services.student.engines.process.engine import ProcessEngine
from services.student.engines.transformers.engine import TransformersEngine
from services.student.engines.transformers.work import StreamPiece
from services.student.engines.vllm.engine import VllmEngine
from services.student.rollout.canary.routing import Router
from services.student.rollout.replica import build_replica
from services.student.rollout.swap import Rollout, Verified
from services.student.tap import TrafficTap
from shared.checkpoints import CheckpointRegistry
from shared.client import CHECKPOINT_HEADER
from shared.contracts import (
    ActivateRequest,
    AttentionRequest,
    AttentionResponse,
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
from shared.errors import MPAError, Unavailable
from shared.http import create_app
from shared.images import ImageLimits
from shared.images.chat import ChatImages
from shared.settings import StudentSettings
from shared.store import Store
from shared.vlm.attention_route import answer_attention
from shared.vlm.loading import local_folder
from shared.vlm.probe import AttentionProbe

log = logging.getLogger(__name__)
T = TypeVar("T")


def rollout_of(request: Request) -> Rollout:
    rollout: Rollout = request.app.state.rollout
    return rollout


def router_of(request: Request) -> Router:
    router: Router = request.app.state.router
    return router


RolloutDep = Annotated[Rollout, Depends(rollout_of)]
RouterDep = Annotated[Router, Depends(router_of)]


def build_app(settings: StudentSettings) -> FastAPI:
    """The student service; the engine is loaded in the lifespan, so a bad start ends the process with its reason."""
    app = create_app(
        "student",
        settings,
        lifespan=_lifespan(settings),
        ready=_readiness,
        openai_errors=True,
        more_metrics=_engine_metrics,
    )
    limit = settings.student_request_timeout.total_seconds()

    @app.post("/v1/chat/completions", response_model=None)
    async def chat(body: ChatRequest, request: Request, router: RouterDep) -> Response | ChatResponse:
        """OpenAI chat completions with images."""
        samplings = read_samplings(body, settings)
        version = wanted_version(body.model)
        answering = router if version is None else router.engine_for(version)
        question = await read_question(body.messages, request.app.state.images)
        if body.stream:
            pieces = answering.stream(question, samplings)
            first = await unless_gone(request, within(limit, anext(pieces)))
            request.app.state.tap.offer(question, first.version)
            return StreamingResponse(_events(body, first, pieces), media_type="text/event-stream", headers=named(first))
        answered = await unless_gone(request, within(limit, answering.answer(question, samplings)))
        request.app.state.tap.offer(question, answered.version)
        response = build_response(body, answered)
        return Response(response.model_dump_json(), media_type="application/json", headers=named(answered))

    @app.post("/v1/score", response_model=ScoreResponse)
    async def score(
        body: ScoreRequest, request: Request, response: Response, rollout: RolloutDep, router: RouterDep
    ) -> ScoreResponse:
        """Log-probabilities of given answers."""
        version = wanted_version(body.model)
        engine = rollout.engine if version is None else router.engine_for(version)
        scored = await unless_gone(request, within(limit, score_items(engine, body, request.app.state.images)))
        response.headers[CHECKPOINT_HEADER] = scored.checkpoint
        return scored

    @app.post("/v1/attention")
    async def attention(body: AttentionRequest, request: Request, router: RouterDep) -> AttentionResponse:
        """Where the serving checkpoint looks while it gives answers."""
        version = wanted_version(body.model)
        served = None if version is None else router.engine_for(version).version
        source = None if served is None else (served, request.app.state.folder_of(served))
        return await answer_attention(request.app.state.probe, body, ImageLimits.from_settings(settings), source)

    @app.get("/v1/models")
    async def models(rollout: RolloutDep) -> ModelList:
        """The student with the checkpoint it runs, and all versions that it could run."""
        serving, name = rollout.engine.version, settings.student_name
        known = (await rollout.checkpoints()).checkpoints
        versions = [
            ModelInfo(id=f"{name}@{c.version}", checkpoint=c.version, active=c.version == serving) for c in known
        ]
        return ModelList(data=[ModelInfo(id=name, checkpoint=serving, active=True), *versions])

    @app.get("/v1/checkpoints")
    async def checkpoints(rollout: RolloutDep) -> CheckpointList:
        """All versions in the registry."""
        return await rollout.checkpoints()

    @app.put("/v1/checkpoints/active")
    async def activate(body: ActivateRequest, rollout: RolloutDep) -> SwapResult:
        """Swap; answers when the version serves."""
        return await rollout.activate(body.version, body.by, body.deadline_seconds)

    @app.post("/v1/checkpoints/rollback")
    async def rollback(rollout: RolloutDep) -> SwapResult:
        """Back to the version that was active before."""
        return await rollout.rollback("api")

    app.include_router(rollout_routes.router)
    return app


def _lifespan(settings: StudentSettings):  # type: ignore[no-untyped-def]
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        store = Store(settings.store_url, settings.data_dir / "cache")
        registry = CheckpointRegistry(store, settings.student_name)
        metrics = EngineMetrics(app.state.metrics_registry)
        base: Path = await asyncio.to_thread(local_folder, settings.student_model)

        async def start(candidate: Verified) -> Engine:
            args = (settings, candidate.version, candidate.folder, candidate.smoke, metrics)
            if settings.student_engine == "vllm":
                return await VllmEngine.start(*args)
            kind = ProcessEngine if settings.student_process == "process" else TransformersEngine
            return await kind.start(*args)

        async def start_beside(candidate: Verified) -> Engine:
            if isinstance(rollout.engine, VllmEngine):
                return await rollout.engine.beside(candidate.version, candidate.folder, candidate.smoke)
            return await start(candidate)

        rollout = await Rollout.start(registry, base, start, timeout=settings.student_swap_timeout)
        rollout.on_swap = metrics.swap
        metrics.watch(lambda: rollout.engine.queued)
        router = Router(lambda: rollout.engine, app.state.metrics_registry)
        replica = build_replica(settings, store, registry, rollout, router, start_beside)
        app.state.rollout, app.state.router, app.state.replica = rollout, router, replica
        app.state.images = images = ChatImages(
            settings, max_images=settings.student_max_images, setting="MPA_STUDENT_MAX_IMAGES"
        )
        app.state.tap = tap = TrafficTap(settings, store, app.state.metrics_registry)
        app.state.probe = probe = _probe(settings, registry, rollout) if settings.attention_probe else None
        app.state.folder_of = registry.local
        app.state.candidates = _candidates(settings)
        replica.start()
        yield
        if probe is not None:
            await probe.aclose()
        await tap.aclose()
        images.close()
        await replica.aclose()
        await rollout.engine.close()

    return lifespan


def _candidates(settings: StudentSettings) -> str:
    """Which checkpoints can be served beside the active one."""
    if settings.student_engine != "vllm":
        return "any"
    return "adapters" if settings.student_vllm_lora else "none"


def _probe(settings: StudentSettings, registry: CheckpointRegistry, rollout: Rollout) -> AttentionProbe:
    def serving() -> tuple[str, Path]:
        return rollout.engine.version, registry.local(rollout.engine.version)

    return AttentionProbe(
        serving,
        dtype=settings.student_dtype,
        device=settings.student_device,
        idle=settings.attention_idle.total_seconds(),
        torch_threads=settings.torch_threads,
        trust_remote_code=settings.trust_remote_code,
    )


async def _engine_metrics(app: FastAPI) -> bytes:
    engine = app.state.rollout.engine
    return await engine.metrics() if isinstance(engine, VllmEngine) else b""


async def _readiness(app: FastAPI) -> Health:
    rollout: Rollout | None = getattr(app.state, "rollout", None)
    if rollout is None:
        return Health(service="student", ready=False, reason="The model is loading.")
    details = {"checkpoint": rollout.engine.version, "queued": rollout.engine.queued}
    details["attention"] = app.state.probe is not None
    details["candidates"] = app.state.candidates
    if rollout.engine.score_trouble:
        details["score"] = f"off: {rollout.engine.score_trouble}"
    alive = rollout.engine.alive
    reason = rollout.problem if alive else rollout.engine.trouble
    return Health(service="student", ready=alive, reason=reason, details=details)


def named(answer: Answered | StreamPiece) -> dict[str, str]:
    return {CHECKPOINT_HEADER: answer.version}


async def within(seconds: float, work: Awaitable[T]) -> T:
    """The result of ``work``, or Unavailable after ``seconds``."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError as error:
        raise Unavailable("The student did not answer in time: retry, or lower the load.", retry_after=1) from error


async def _events(request: ChatRequest, first: StreamPiece, rest: AsyncGenerator[StreamPiece]) -> AsyncIterator[str]:
    """Server-sent events; an error after the first piece becomes a last event, since the status line is out."""

    async def pieces() -> AsyncIterator[StreamPiece]:
        yield first
        async for piece in rest:
            yield piece

    async with aclosing(rest):
        try:
            async for chunk in stream_chunks(request, pieces()):
                yield f"data: {json.dumps(chunk)}\n\n"
        except Exception as error:
            log.exception("A stream broke off")
            known = error if isinstance(error, MPAError) else MPAError("The answer broke off: see the service's log.")
            yield f"data: {json.dumps(as_openai_error(known))}\n\n"
            return
    yield "data: [DONE]\n\n"
