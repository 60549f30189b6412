"""Every student engine on the demo's student, and students of other weights to swap to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from services.student.engines.base import Engine
from services.student.engines.process.engine import ProcessEngine
from services.student.engines.transformers.engine import TransformersEngine
from services.student.engines.vllm.engine import VllmEngine
from shared.settings import StudentSettings
from shared.vlm.generation import Generated
from shared.vlm.loading import load_model
from tests.services.student.engine_cases import (
    Case,
    changed,
    expected,
    make_cases,
    without_end,
)
from tests.tiny_models import DEMO_STUDENT

QUEUE = 48


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return make_cases()


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's student with noise in its language model: same shapes, other answers."""
    return changed(tmp_path_factory.mktemp("other") / "model", 0.05)


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return without_end(tmp_path_factory.mktemp("endless") / "model")


@pytest.fixture(scope="module")
def reference(cases: list[Case], noisy: Path) -> dict[str, list[Generated]]:
    return {"base": expected(load_model(DEMO_STUDENT), cases), "other": expected(load_model(noisy), cases)}


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[
        "transformers",
        pytest.param("process", marks=pytest.mark.slow),
        pytest.param("vllm", marks=pytest.mark.slow),
    ],
)
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    kind: Any = {"transformers": TransformersEngine, "process": ProcessEngine, "vllm": VllmEngine}[request.param]
    settings = StudentSettings(student_queue_size=QUEUE, student_max_model_len=512, student_model=str(DEMO_STUDENT))
    started: Engine = await kind.start(settings, "base", DEMO_STUDENT, None)
    yield started
    await started.close()
