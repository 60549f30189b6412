"""What a start-up refuses before it loads anything, and what it closes when it fails half-way."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from services.student.app import build_app
from services.student.rollout.replica import Replica
from shared.errors import InvalidInput, NotFound
from shared.settings import StudentSettings
from tests.processes import command_line, descendants

ENGINE = "services.student.engines.process"
UNUSABLE = "nonsense://nowhere"
"""A Redis URL that cannot even be parsed: the board fails after the engine has been started."""


async def start(settings: StudentSettings, **changes: Any) -> None:
    app = build_app(settings.model_copy(update=changes))
    async with app.router.lifespan_context(app):
        pass


def left() -> list[str]:
    """Threads and processes that only a running student has."""
    threads = [t.name for t in threading.enumerate() if t.name.startswith(("student-model", "traffic-tap"))]
    processes = [command_line(pid) for pid in descendants(os.getpid())]
    return threads + [line for line in processes if ENGINE in line]


async def test_a_wrong_filter_is_refused_before_the_model_is_looked_for(
    settings: StudentSettings, tmp_path: Path
) -> None:
    with pytest.raises(NotFound, match="neither a folder"):
        await start(settings, student_model=str(tmp_path / "missing"))
    with pytest.raises(InvalidInput, match="MPA_STUDENT_TAP_FILTER='nowhere:f' cannot be imported"):
        await start(settings, student_model=str(tmp_path / "missing"), student_tap_filter="nowhere:f")


@pytest.mark.parametrize("process", ["thread", pytest.param("process", marks=pytest.mark.slow)])
async def test_a_start_that_fails_after_the_engine_closes_all_that_was_opened(
    settings: StudentSettings, process: str
) -> None:
    before = left()
    with pytest.raises(ValueError, match="is not an address of Redis"):
        await start(settings, student_process=process, student_tap_share=1.0, redis_url=UNUSABLE)
    assert left() == before


async def test_a_start_that_is_given_up_closes_all_that_was_opened(
    settings: StudentSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, before = Replica.start, left()

    def cancelled(self: Replica) -> None:
        begun(self)
        raise asyncio.CancelledError

    monkeypatch.setattr(Replica, "start", cancelled)
    with pytest.raises(asyncio.CancelledError):
        await start(settings, student_process="thread", student_tap_share=1.0, attention_probe=True)
    assert left() == before
    assert [task for task in asyncio.all_tasks() if "_follow" in repr(task)] == []
