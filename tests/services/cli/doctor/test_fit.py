"""Settings that do not fit those of the services."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi import FastAPI

from services.cli.doctor.deployment import SERVICES
from services.cli.doctor.fit import fit_findings
from services.trainer.app import make_app as make_trainer
from shared.contracts import FindingState
from shared.settings import ClientSettings, TrainerSettings
from tests.services.cli.doctor.conftest import System
from tests.services.cli.doctor.running_doctor import (
    asked_service,
    mpa,
    only,
)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("MPA_TEACHER_NAME", "gpt", "no model 'gpt'; it has 'teacher'"),
        ("MPA_STUDENT_NAME", "gpt", "no model 'gpt'; it has 'student'"),
        ("MPA_STORE", "memory://x", "in memory"),
        ("MPA_TEACHER_URL", "MPA_STUDENT_URL", "are both"),
    ],
)
def test_settings_that_do_not_go_together(
    system: System, monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, system.environment.get(value, value))
    result = mpa("--json", *only("settings"))
    assert result.exit_code == 1
    assert any(words in one["found"] for one in json.loads(result.stdout)["findings"])


async def test_a_store_and_a_redis_here_for_services_elsewhere(tmp_path: Path) -> None:
    away = {f"{name}_url": f"http://{name}.invalid:1" for name in SERVICES}
    settings = ClientSettings(data_dir=tmp_path, **away)  # type: ignore[arg-type]
    services = {name: asked_service(name, problem="away") for name in SERVICES}
    of_store, of_redis = await fit_findings(settings, services, 3.0)
    assert {of_store.state, of_redis.state} == {FindingState.WARNING}
    assert "not all services are on this machine" in of_store.found and "MPA_REDIS_URL" in of_redis.found


async def test_two_names_for_one_student(system: System, serve: Callable[[FastAPI], str], tmp_path: Path) -> None:
    common = {"data_dir": tmp_path, "store": system.environment["MPA_STORE"], "redis_url": system.redis.url}
    trainer = serve(make_trainer(TrainerSettings(**common, student_name="another")))  # type: ignore[arg-type]
    settings = ClientSettings(**common, student_url=system.environment["MPA_STUDENT_URL"], trainer_url=trainer)  # type: ignore[arg-type]
    services = {name: asked_service(name, problem="not asked") for name in SERVICES}
    (found,) = await fit_findings(settings, services, 10.0)
    assert found.state is FindingState.BROKEN and "the students differ" in found.found
