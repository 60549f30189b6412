"""What `mpa doctor` finds about services: their readiness, keys, clocks and workers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import redis
from fastapi import FastAPI

from services.cli.doctor.services import answering, key
from shared.contracts import FindingState, Health, WorkerInfo
from shared.http import create_app
from shared.settings import HttpSettings
from tests.services.cli.doctor.conftest import System
from tests.services.cli.doctor.running_doctor import (
    BROKEN,
    OK,
    WARNING,
    asked_service,
    findings,
    one_finding,
)


@pytest.mark.usefixtures("environment")
def test_a_service_that_is_away_stops_no_other_check(monkeypatch: pytest.MonkeyPatch, free_port: int) -> None:
    monkeypatch.setenv("MPA_TEACHER_URL", f"http://127.0.0.1:{free_port}")
    found = findings("teacher", "teacher-answers", "student", "store", "settings")
    assert found["teacher"].state is BROKEN and "MPA_TEACHER_URL" in found["teacher"].fix
    assert found["teacher-answers"].state is BROKEN
    assert {found[name].state for name in ("student", "store", "settings")} == {OK}


def service(name: str, health: Health, key: str | None = None) -> FastAPI:
    """An MPA service with nothing behind it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> Any:
        yield

    async def ready(_: FastAPI) -> Health:
        return health

    made = create_app(name, HttpSettings(api_key=key), lifespan=lifespan, ready=ready)  # type: ignore[arg-type]

    @made.get("/v1/tasks")
    async def tasks() -> dict[str, Any]:
        return {"tasks": []}

    return made


@pytest.mark.usefixtures("environment")
def test_a_service_that_is_not_ready_says_why(monkeypatch: pytest.MonkeyPatch, serve: Callable[..., str]) -> None:
    health = Health(service="parity", ready=False, reason="Redis does not answer")
    monkeypatch.setenv("MPA_PARITY_URL", serve(service("parity", health)))
    found = findings("parity")["parity"]
    assert found.state is BROKEN and "Redis does not answer" in found.found


@pytest.mark.usefixtures("environment")
def test_a_url_of_another_service_is_noticed(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPA_TRAINER_URL", system.environment["MPA_STUDENT_URL"])
    assert "is the student service" in findings("trainer")["trainer"].found


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("theirs", "ours", "words"),
    [
        ("theirs", "ours", "not accept our key"),
        ("theirs", None, "none is set here"),
        (None, "ours", "without any key"),
    ],
)
def test_keys_that_do_not_fit(
    monkeypatch: pytest.MonkeyPatch, serve: Callable[..., str], theirs: str | None, ours: str | None, words: str
) -> None:
    ready = Health(service="parity", ready=True)
    monkeypatch.setenv("MPA_PARITY_URL", serve(service("parity", ready, theirs)))
    if ours:
        monkeypatch.setenv("MPA_API_KEY", ours)
    found = findings("parity")["parity's key"]
    assert found.state is BROKEN and words in found.found and "MPA_API_KEY" in found.fix


@contextmanager
def worker(url: str, release: str, schema: int) -> Iterator[None]:
    now = datetime.now(UTC)
    info = WorkerInfo(
        id="parity-old", kind="parity", host="h", release=release, schema_version=schema, started_at=now, seen_at=now
    )
    with redis.Redis.from_url(url) as client:
        client.sadd("mpa:workers", info.id)
        client.set("mpa:worker:parity-old", info.model_dump_json())
        yield
        client.srem("mpa:workers", info.id)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(("schema", "state"), [(1, WARNING), (2, BROKEN)])
def test_releases_that_differ(system: System, schema: int, state: FindingState) -> None:
    with worker(system.redis.url, "0.0.9", schema):
        found = findings("releases")["releases"]
    assert found.state is state and "0.0.9: parity-old" in found.found


@pytest.mark.usefixtures("environment")
def test_a_clock_that_is_an_hour_off(monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(time.time() - 3600)

        def log_message(self, format: str, *args: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Late)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("MPA_PARITY_URL", f"http://127.0.0.1:{server.server_port}")
    found = findings("parity")["parity's clock"]
    server.shutdown()
    server.server_close()
    assert found.state is BROKEN and "behind" in found.found and "NTP" in found.fix


@pytest.mark.usefixtures("environment")
def test_no_worker_lives(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.setenv("MPA_REDIS_URL", redis_url)
    found = findings("workers")
    assert (found["parity workers"].state, found["trainer workers"].state) == (BROKEN, WARNING)
    with redis.Redis.from_url(redis_url) as client:
        client.lpush("train", "a message")
    found = findings("workers")
    assert found["trainer workers"].state is BROKEN and "services.trainer.worker" in found["trainer workers"].fix


def test_something_else_listens_there() -> None:
    found = one_finding([answering(asked_service("trainer", alive=None))], "trainer", FindingState.BROKEN)
    assert "not as MPA's trainer" in found.found and "MPA_TRAINER_URL" in found.fix


def test_a_teacher_need_not_be_ours() -> None:
    assert answering(asked_service("teacher", alive=None)).state is FindingState.OK


@pytest.mark.parametrize(
    ("changes", "state", "words"),
    [
        ({"with_key": 500}, FindingState.BROKEN, "returns 500"),
        ({}, FindingState.WARNING, "anyone who can reach it"),
        ({"key": "k", "without_key": 401}, FindingState.OK, "accepted"),
    ],
)
def test_keys_of_a_service_elsewhere(changes: dict[str, Any], state: FindingState, words: str) -> None:
    assert words in one_finding([key(asked_service("parity", **changes))], "parity's key", state).found
