"""What the student's routes work with, built when the app starts and closed when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from fastapi import FastAPI

from services.student.engines.base import Engine
from services.student.engines.metrics import EngineMetrics
from services.student.engines.process.engine import ProcessEngine
from services.student.engines.transformers.engine import TransformersEngine
from services.student.engines.vllm.engine import VllmEngine
from services.student.rollout.canary.routing import Router
from services.student.rollout.replica import build_replica
from services.student.rollout.swap import Rollout, Verified
from services.student.tap import TrafficTap
from shared.checkpoints import CheckpointRegistry
from shared.contracts import Health
from shared.http import Lifespan
from shared.images.chat import ChatImages
from shared.settings import StudentSettings
from shared.store import Store
from shared.vlm.loading import local_folder
from shared.vlm.probe import AttentionProbe


def lifespan(settings: StudentSettings) -> Lifespan:
    """Loads the engine and starts the other parts. If one of them fails, closes those that are already open."""

    @asynccontextmanager
    async def run(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as opened:
            await _open(app, settings, opened)
            yield

    return run


async def _open(app: FastAPI, settings: StudentSettings, opened: AsyncExitStack) -> None:
    """Puts the parts into ``app.state``, the cheap ones first: a wrong setting is refused before a model is loaded."""
    state = app.state
    store = Store(settings.store_url, settings.data_dir / "cache")
    state.tap = tap = TrafficTap(settings, store, state.metrics_registry)
    opened.push_async_callback(tap.aclose)
    state.images = images = ChatImages(
        settings, max_images=settings.student_max_images, setting="MPA_STUDENT_MAX_IMAGES"
    )
    opened.callback(images.close)
    state.registry = registry = CheckpointRegistry(store, settings.student_name)
    metrics = EngineMetrics(state.metrics_registry)
    rollout = await _start_rollout(settings, registry, metrics)
    opened.push_async_callback(lambda: rollout.engine.close())
    metrics.watch(lambda: rollout.engine.queued)
    router = Router(lambda: rollout.engine, state.metrics_registry)
    state.probe = _probe(settings, registry, rollout) if settings.attention_probe else None
    if state.probe is not None:
        opened.push_async_callback(state.probe.aclose)

    async def start_beside(candidate: Verified) -> Engine:
        if isinstance(rollout.engine, VllmEngine):
            return await rollout.engine.beside(candidate.version, candidate.folder, candidate.smoke)
        return await _start_engine(settings, candidate, metrics)

    replica = build_replica(settings, store, registry, rollout, router, start_beside)
    opened.push_async_callback(replica.aclose)
    replica.start()
    state.candidates = _candidates(settings)
    state.router, state.replica = router, replica
    state.rollout = rollout  # last, since it makes the service ready


async def _start_rollout(settings: StudentSettings, registry: CheckpointRegistry, metrics: EngineMetrics) -> Rollout:
    base: Path = await asyncio.to_thread(local_folder, settings.student_model)
    rollout = await Rollout.start(
        registry,
        base,
        lambda candidate: _start_engine(settings, candidate, metrics),
        timeout=settings.student_swap_timeout,
    )
    rollout.on_swap = metrics.swap
    return rollout


async def _start_engine(settings: StudentSettings, candidate: Verified, metrics: EngineMetrics) -> Engine:
    args = (settings, candidate.version, candidate.folder, candidate.smoke, metrics)
    if settings.student_engine == "vllm":
        return await VllmEngine.start(*args)
    kind = ProcessEngine if settings.student_process == "process" else TransformersEngine
    return await kind.start(*args)


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


async def engine_metrics(app: FastAPI) -> bytes:
    """The model server's own metrics, where the engine has such a server."""
    engine = app.state.rollout.engine
    return await engine.metrics() if isinstance(engine, VllmEngine) else b""


async def ready(app: FastAPI) -> Health:
    """Ready when the engine answers."""
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
