"""A student service with a tiny model in this process, and what tests of its rollout ask it."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import httpx
from fastapi import FastAPI
from PIL import Image

from services.student.app import build_app
from shared.checkpoints import CheckpointRegistry, build_card
from shared.checkpoints.adapters import describe_adapter
from shared.client import StudentClient, image_question
from shared.contracts import CanaryRequest, ChatRequest, SmokeAnswer
from shared.images import to_data_url
from shared.settings import StudentSettings
from tests.quick_server import serving

QUESTION = "what is this?"


def png(seed: int = 60) -> bytes:
    buffer = io.BytesIO()
    Image.frombytes("RGB", (96, 96), Random(seed).randbytes(96 * 96 * 3)).save(buffer, "PNG")
    return buffer.getvalue()


def data_url(seed: int = 60) -> str:
    return to_data_url(png(seed))


def ask(seed: int = 60, **params: Any) -> ChatRequest:
    """A sampled but seeded answer: a random model's greedy one (``temperature=0``, which a canary compares) is often a
    special token, which has no text.
    """
    return image_question(
        "student", data_url(seed), QUESTION, **{"max_tokens": 6, "temperature": 1.0, "seed": 5, **params}
    )


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


class Running(NamedTuple):
    client: StudentClient
    app: FastAPI


@asynccontextmanager
async def running(settings: StudentSettings, changes: Mapping[str, Any] | None = None) -> AsyncIterator[Running]:
    """The service on a free port, until the block ends; ``changes`` are other settings."""
    app = build_app(settings.model_copy(update=dict(changes or {})))
    async with serving(app) as url, StudentClient(url, model="student") as client:
        yield Running(client, app)


async def batches(http: httpx.AsyncClient) -> tuple[int, int]:
    """(batches, answers) that the model has begun since the start."""
    lines = dict(line.rsplit(" ", 1) for line in (await http.get("/metrics")).text.splitlines() if line[0] != "#")
    return int(float(lines["mpa_student_batch_answers_count"])), int(float(lines["mpa_student_batch_answers_sum"]))
