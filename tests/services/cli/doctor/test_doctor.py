"""`mpa doctor` on a healthy system, and on systems with one fault each."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis
from fastapi import FastAPI
from typer.testing import CliRunner, Result

from services.cli.doctor.backing import disk_findings
from services.cli.doctor.checks import Check, examine, in_thread, ok
from services.cli.doctor.diagnosis import CHECKS
from services.cli.main import app
from shared.checkpoints import CheckpointRegistry, build_card
from shared.compatibility import RELEASE
from shared.contracts import Diagnosis, Finding, FindingState, Health, WorkerInfo
from shared.http import create_app
from shared.settings import ClientSettings, HttpSettings
from shared.store import Store
from tests.quick_server import ServerThread
from tests.scripted_models import ScriptedModel, wise_teacher
from tests.services.cli.doctor.conftest import System

BROKEN, WARNING, OK = FindingState.BROKEN, FindingState.WARNING, FindingState.OK


@pytest.fixture(autouse=True)
def environment(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in system.environment.items():
        monkeypatch.setenv(name, value)


def mpa(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *arguments])


def only(*names: str) -> list[str]:
    """Options that skip all other checks."""
    return [part for name in CHECKS if name not in names for part in ("--skip", name)]


def findings(*names: str) -> dict[str, Finding]:
    """The findings of these checks; the exit code must match them."""
    result = mpa("--json", "--timeout", "3", *only(*names))
    found = Diagnosis.model_validate_json(result.stdout)
    broken = any(finding.state is BROKEN for finding in found.findings)
    assert (result.exit_code, found.healthy) == (int(broken), not broken)
    assert all(finding.fix for finding in found.findings if finding.state in (BROKEN, WARNING))
    return {finding.check: finding for finding in found.findings}


def test_a_healthy_system_has_nothing_to_fix() -> None:
    result = mpa("--json")
    found = Diagnosis.model_validate_json(result.stdout)
    assert [f for f in found.findings if f.state is not OK] == []
    assert (result.exit_code, found.healthy, found.release) == (0, True, RELEASE)
    names = {finding.check for finding in found.findings}
    assert names >= {"teacher", "parity's key", "student's clock", "releases", "redis' persistence", "redis' eviction"}
    assert names >= {"redis' clock", "store", "room in the store", "teacher's answer", "teacher's logprobs"}
    assert names >= {"student's version", "parity workers", "trainer workers", "settings"}


def test_the_table_tells_what_to_do(monkeypatch: pytest.MonkeyPatch, free_port: int) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("MPA_TRAINER_URL", f"http://127.0.0.1:{free_port}")
    result = mpa(*only("trainer", "student"))
    assert result.exit_code == 1
    assert "broken" in result.stdout and "MPA_TRAINER_URL" in result.stdout
    assert "2 broken" not in result.output and "1 broken" in result.output


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


@pytest.fixture
def serve() -> Iterator[Callable[[FastAPI], str]]:
    servers: list[ServerThread] = []

    def start(made: FastAPI) -> str:
        servers.append(ServerThread(made))
        return servers[-1].url

    yield start
    for server in servers:
        server.leave()


def test_a_service_that_is_not_ready_says_why(monkeypatch: pytest.MonkeyPatch, serve: Callable[..., str]) -> None:
    health = Health(service="parity", ready=False, reason="Redis does not answer")
    monkeypatch.setenv("MPA_PARITY_URL", serve(service("parity", health)))
    found = findings("parity")["parity"]
    assert found.state is BROKEN and "Redis does not answer" in found.found


def test_a_url_of_another_service_is_noticed(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPA_TRAINER_URL", system.environment["MPA_STUDENT_URL"])
    assert "is the student service" in findings("trainer")["trainer"].found


@pytest.mark.parametrize(
    ("theirs", "ours", "words"),
    [
        ("theirs", "ours", "not accept our key"),
        ("theirs", None, "we have none"),
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


@pytest.mark.parametrize(("schema", "state"), [(1, WARNING), (2, BROKEN)])
def test_releases_that_differ(system: System, schema: int, state: FindingState) -> None:
    with worker(system.redis.url, "0.0.9", schema):
        found = findings("releases")["releases"]
    assert found.state is state and "0.0.9: parity-old" in found.found


@pytest.mark.parametrize(
    ("option", "value", "before", "check"),
    [
        ("appendonly", "no", "yes", "redis' persistence"),
        ("maxmemory-policy", "allkeys-lru", "noeviction", "redis' eviction"),
    ],
)
def test_a_redis_that_forgets(system: System, option: str, value: str, before: str, check: str) -> None:
    with redis.Redis.from_url(system.redis.url) as client:
        client.config_set(option, value)
        try:
            found = findings("redis")
        finally:
            client.config_set(option, before)
    assert [name for name, finding in found.items() if finding.state is not OK] == [check]


def test_a_redis_that_is_away(monkeypatch: pytest.MonkeyPatch, free_port: int) -> None:
    monkeypatch.setenv("MPA_REDIS_URL", f"redis://127.0.0.1:{free_port}/0")
    found = findings("redis", "workers", "releases", "store")
    assert {name: finding.state for name, finding in found.items()} == {
        **dict.fromkeys(("redis", "workers", "releases"), BROKEN),
        "store": OK,
    }
    assert "MPA_REDIS_URL" in found["redis"].fix


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


def test_a_store_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("MPA_STORE", (tmp_path / "file/store").as_uri())
    found = findings("store")["store"]
    assert found.state is BROKEN and "not a usable folder" in found.found and "MPA_STORE" in found.fix


def test_the_probe_leaves_nothing_behind(system: System) -> None:
    findings("store")
    assert Store(system.environment["MPA_STORE"]).list("doctor") == []


async def test_a_full_disk(tmp_path: Path) -> None:
    found = await disk_findings(ClientSettings(data_dir=tmp_path / "not/there/yet"), least=2**62)
    assert [finding.state for finding in found] == [BROKEN, BROKEN]
    assert "MPA_DATA_DIR" in found[0].fix and "MPA_STORE" in found[1].fix


@pytest.mark.parametrize(
    ("model", "check", "state", "words"),
    [
        (ScriptedModel(lambda _: ["..."]), "teacher's answer", BROKEN, "says nothing"),
        (ScriptedModel(lambda _: ["a" * 40]), "teacher's answer", BROKEN, "repeats 'a'"),
        (ScriptedModel(lambda _: ["a\ufffd b"]), "teacher's answer", BROKEN, "not valid text"),
        (ScriptedModel(lambda _: ["a cat"]), "teacher's answer", BROKEN, "sees neither"),
        (ScriptedModel(wise_teacher, logprobs=False), "teacher's logprobs", WARNING, "without them"),
        (ScriptedModel(wise_teacher, failure=lambda _: 500), "teacher-answers", BROKEN, "500"),
        (ScriptedModel(wise_teacher, delay=2.5), "teacher-answers", BROKEN, "no answer within 1.2 s"),
    ],
)
def test_a_teacher_that_does_not_answer_well(
    monkeypatch: pytest.MonkeyPatch,
    serve: Callable[..., str],
    model: ScriptedModel,
    check: str,
    state: FindingState,
    words: str,
) -> None:
    monkeypatch.setenv("MPA_TEACHER_URL", serve(model.app()))
    timeout = "0.2" if model.delay else "3"
    result = mpa("--json", "--timeout", timeout, *only("teacher-answers"))
    found = {one["check"]: one for one in json.loads(result.stdout)["findings"]}
    assert found[check]["state"] == state and words in found[check]["found"]


def test_a_student_that_serves_something_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    store = Store((tmp_path / "store").as_uri())
    monkeypatch.setenv("MPA_STORE", store.url)
    assert "has no checkpoint" in findings("student-answers")["student's version"].found
    folder = Path("demo/models/student").absolute()
    registry = CheckpointRegistry(store, "student")
    registry.publish(folder, build_card(folder, version="other", student="student"))
    registry.set_active("other", "somebody")
    found = findings("student-answers", "settings")
    assert found["student's version"].state is BROKEN and "registry says other" in found["student's version"].found
    assert "the artifact stores differ" in found["settings"].found


def test_no_worker_lives(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.setenv("MPA_REDIS_URL", redis_url)
    found = findings("workers")
    assert (found["parity workers"].state, found["trainer workers"].state) == (BROKEN, WARNING)
    with redis.Redis.from_url(redis_url) as client:
        client.lpush("train", "a message")
    found = findings("workers")
    assert found["trainer workers"].state is BROKEN and "services.trainer.worker" in found["trainer workers"].fix


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


def test_an_unknown_check_cannot_be_skipped() -> None:
    refused = mpa("--skip", "weather")
    assert refused.exit_code == 2 and "--skip weather" in refused.stderr and "teacher-answers" in refused.stderr


async def test_a_check_that_breaks_or_hangs_is_a_finding() -> None:
    async def breaks() -> list[Finding]:
        raise ZeroDivisionError("by zero")

    async def hangs() -> list[Finding]:
        return await in_thread(lambda: threading.Event().wait())  # type: ignore[return-value]

    async def works() -> list[Finding]:
        await asyncio.sleep(0)
        return [ok("c", "well")]

    checks = [Check("a", breaks, "do a"), Check("b", hangs, "do b", 0.05), Check("c", works, "do c")]
    found = await examine(checks)
    assert [(one.check, one.state) for one in found] == [("a", BROKEN), ("b", BROKEN), ("c", OK)]
    assert "ZeroDivisionError" in found[0].found and "0.05 s" in found[1].found and found[1].fix == "do b"
