"""What a start-up of the teacher closes when it fails half-way."""

from __future__ import annotations

import asyncio

import pytest

from services.teacher.app import make_app
from services.teacher.transformers_engine import TransformersTeacher
from shared.settings import TeacherSettings


class Unstartable(TransformersTeacher):
    """Fails after it was opened, as an engine does whose process cannot be started."""

    async def start(self) -> None:
        await asyncio.sleep(0)
        raise OSError("no more processes")


async def test_an_engine_that_does_not_start_is_stopped() -> None:
    settings = TeacherSettings(teacher_engine="transformers")
    engine = Unstartable(settings)
    app = make_app(settings, engine)
    with pytest.raises(OSError, match="no more processes"):
        async with app.router.lifespan_context(app):
            raise AssertionError("it started")
    assert engine.reason == "The teacher is shutting down."
