"""What the teacher's routes work with, built when the app starts and closed when it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI

from services.teacher.engine import TeacherEngine
from services.teacher.vllm_engine import VllmTeacher
from shared.contracts import Health
from shared.http.app import Lifespan, Readiness
from shared.images.chat import ChatImages
from shared.settings import TeacherSettings

if TYPE_CHECKING:
    from shared.vlm.probe import AttentionProbe


def lifespan(settings: TeacherSettings, engine: TeacherEngine | None = None) -> Lifespan:
    """Starts ``engine``, or the one that the settings name. If any part fails, closes the parts that were open."""

    @asynccontextmanager
    async def run(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as opened:
            app.state.images = images = ChatImages(
                settings, max_images=settings.teacher_max_images, setting="MPA_TEACHER_MAX_IMAGES"
            )
            opened.callback(images.close)
            app.state.engine = running = engine or make_engine(settings)
            opened.push_async_callback(running.stop)
            app.state.probe = probe = make_probe(settings) if settings.attention_probe else None
            if probe is not None:
                opened.push_async_callback(probe.aclose)
            await running.start()
            yield

    return run


def readiness(settings: TeacherSettings) -> Readiness:
    """Ready when the engine is."""

    async def ready(app: FastAPI) -> Health:
        running: TeacherEngine = app.state.engine
        details = {"model": settings.teacher_model, "attention": settings.attention_probe, **running.details}
        return Health(service="teacher", ready=running.ready, reason=running.reason, details=details)

    return ready


async def engine_metrics(app: FastAPI) -> bytes:
    """The model server's own metrics."""
    running: TeacherEngine = app.state.engine
    return await running.metrics()


def make_engine(settings: TeacherSettings) -> TeacherEngine:
    """The engine that ``MPA_TEACHER_ENGINE`` names. Transformers is imported only where it is used."""
    if settings.teacher_engine == "vllm":
        return VllmTeacher.from_settings(settings)
    from services.teacher.transformers_engine import TransformersTeacher

    return TransformersTeacher(settings)


def make_probe(settings: TeacherSettings) -> AttentionProbe:
    """vLLM reports no attention weights, so the probe runs a copy of the model on transformers, imported only here."""
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
