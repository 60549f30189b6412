"""A student service with a tiny model in this process, and what tests of its rollout ask it."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import uvicorn
from fastapi import FastAPI
from PIL import Image

from services.student.app import build_app
from shared.adapter_files import describe_adapter
from shared.checkpoints import CheckpointRegistry, build_card
from shared.client import StudentClient, image_question
from shared.contracts import CanaryRequest, ChatRequest, SmokeAnswer
from shared.settings import StudentSettings

QUESTION = "what is this?"


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.frombytes("RGB", (96, 96), Random(seed).randbytes(96 * 96 * 3)).save(buffer, "PNG")
    return buffer.getvalue()


def ask(seed: int = 60, **params: Any) -> ChatRequest:
    """A seeded question; give ``temperature=0`` for a greedy answer, which a canary compares."""
    url = "data:image/png;base64," + base64.b64encode(png(seed)).decode()
    return image_question("student", url, QUESTION, **{"max_tokens": 6, "temperature": 1.0, "seed": 5, **params})


async def answer_of(client: StudentClient, seed: int = 60, **params: Any) -> tuple[str, str]:
    """(version, text)."""
    reply = await client.chat(ask(seed, **params))
    return reply.checkpoint or "", reply.response.choices[0].message.content or ""


def publish(registry: CheckpointRegistry, folder: Path, version: str, smoke: SmokeAnswer | None = None) -> str:
    adapter = describe_adapter(folder, "base")
    card = build_card(folder, version=version, student="student", base="base", smoke=smoke, adapter=adapter)
    return registry.publish(folder, card)


def canary(version: str, **options: Any) -> CanaryRequest:
    return CanaryRequest.model_validate({"version": version, "share": 0.5, "by": "test", **options})


@dataclass(frozen=True)
class Running:
    client: StudentClient
    app: FastAPI


@asynccontextmanager
async def running(settings: StudentSettings, changes: Mapping[str, Any] | None = None) -> AsyncIterator[Running]:
    """The service on a free port, until the block ends; ``changes`` are other settings."""
    app = build_app(settings.model_copy(update=dict(changes or {})))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done(), "the service ended while it started"
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with StudentClient(f"http://127.0.0.1:{port}", model="student") as client:
        yield Running(client, app)
    server.should_exit = True
    await task
