"""A small whole system in this process: the four real services with the demo's models, Redis, a store, two workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi import FastAPI

from services.parity.app import make_app as make_parity
from services.student.app import build_app
from services.teacher.app import make_app as make_teacher
from services.trainer.app import make_app as make_trainer
from shared.settings import (
    ParitySettings,
    StudentSettings,
    TeacherSettings,
    TrainerSettings,
)
from shared.state.presence import present
from tests.embedded_redis import EmbeddedRedis, start_embedded_redis
from tests.polling import wait_until
from tests.quick_server import ServerThread


@dataclass(frozen=True)
class System:
    environment: dict[str, str]
    redis: EmbeddedRedis


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder: Path = tmp_path_factory.mktemp("system")
    redis = start_embedded_redis(folder / "redis")
    common = {"data_dir": folder, "store": (folder / "store").as_uri(), "redis_url": redis.url}
    with ExitStack() as running:
        running.callback(redis.stop)
        apps = {
            "teacher": make_teacher(TeacherSettings(teacher_engine="transformers", **common)),
            "student": build_app(StudentSettings(**common)),
            "parity": make_parity(ParitySettings(**common)),
            "trainer": make_trainer(TrainerSettings(**common)),
        }
        servers = {name: ServerThread(app) for name, app in apps.items()}
        for server in servers.values():
            running.callback(server.stop)
        for kind in ("parity", "trainer"):
            running.enter_context(present(redis.url, kind))
        environment = {f"MPA_{name.upper()}_URL": server.url for name, server in servers.items()}
        environment |= {f"MPA_{name.upper()}": str(value) for name, value in common.items()}
        wait_until(lambda: all(_ready(server.url) for server in servers.values()), 60)
        yield System(environment, redis)


def _ready(url: str) -> bool:
    import httpx

    return httpx.get(f"{url}/readyz", timeout=5).status_code == 200


@pytest.fixture
def environment(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """``mpa doctor`` in this process looks at ``system``."""
    for name, value in system.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def serve() -> Iterator[Callable[[FastAPI], str]]:
    servers: list[ServerThread] = []

    def start(made: FastAPI) -> str:
        servers.append(ServerThread(made))
        return servers[-1].url

    yield start
    for server in servers:
        server.leave()
