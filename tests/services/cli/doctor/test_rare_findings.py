"""Rare findings of `mpa doctor`, each on a real part with just that fault if one can be made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from services.cli.doctor.backing import persistence, store_findings
from services.cli.doctor.deployment import SERVICES, ProbedService
from services.cli.doctor.fit import fit_findings
from services.cli.doctor.models import student_findings, teacher_findings
from services.cli.doctor.services import answering, key
from services.trainer.app import make_app as make_trainer
from shared.checkpoints import CheckpointRegistry, build_card
from shared.checkpoints.canaries import CanaryRegistry
from shared.client import ChatClient
from shared.contracts import Alive, CanaryRequest, Finding, FindingState
from shared.settings import ClientSettings, TrainerSettings
from shared.store import Store
from tests.quick_server import ServerThread
from tests.scripted_models import ScriptedModel, completion, wise_teacher
from tests.services.cli.doctor.conftest import System

STUDENT = Path("demo/models/student").absolute()


@pytest.fixture
def serve() -> Iterator[Callable[[FastAPI], str]]:
    servers: list[ServerThread] = []

    def start(app: FastAPI) -> str:
        servers.append(ServerThread(app))
        return servers[-1].url

    yield start
    for server in servers:
        server.leave()


def only(findings: list[Finding], check: str, state: FindingState) -> Finding:
    """The finding of this check, which is of this state and says what to do."""
    (found,) = [finding for finding in findings if finding.check == check]
    assert found.state is state
    assert bool(found.fix) == (state is not FindingState.OK)
    return found


def service(name: str, **changes: Any) -> ProbedService:
    alive = Alive(service=name, release="1", schema_version=1)
    told: dict[str, Any] = {"alive": alive, "status": 200, "with_key": 200, "without_key": 200, **changes}
    return ProbedService(name, f"http://{name}.example:8100", told.pop("key", None), **told)


def test_something_else_listens_there() -> None:
    found = only([answering(service("trainer", alive=None))], "trainer", FindingState.BROKEN)
    assert "not as MPA's trainer" in found.found and "MPA_TRAINER_URL" in found.fix


def test_a_teacher_need_not_be_ours() -> None:
    assert answering(service("teacher", alive=None)).state is FindingState.OK


@pytest.mark.parametrize(
    ("changes", "state", "words"),
    [
        ({"with_key": 500}, FindingState.BROKEN, "returns 500"),
        ({}, FindingState.WARNING, "anyone who can reach it"),
        ({"key": "k", "without_key": 401}, FindingState.OK, "accepted"),
    ],
)
def test_keys_of_a_service_elsewhere(changes: dict[str, Any], state: FindingState, words: str) -> None:
    assert words in only([key(service("parity", **changes))], "parity's key", state).found


@pytest.mark.parametrize(("status", "state"), [("ok", FindingState.OK), ("err", FindingState.BROKEN)])
def test_a_redis_that_cannot_write_its_file(status: str, state: FindingState) -> None:
    """With Redis' INFO as input: the test cannot fill the disk of Redis alone."""
    found = [persistence({"aof_enabled": 1, "aof_last_write_status": status})]
    only(found, "redis' persistence", state)


class Overwrites(Store):
    """Has no conditional writes."""

    def create(self, key: str, data: bytes) -> bool:
        self.write(key, data)
        return True


class Corrupts(Store):
    def read(self, key: str) -> bytes:
        return super().read(key)[:-1]


class ListsNothing(Store):
    def list(self, prefix: str = "") -> list[str]:
        return []


class KeepsAll(Store):
    def delete(self, prefix: str) -> None:
        """Has no permission to delete."""


@pytest.mark.parametrize(
    ("kind", "words"),
    [(Overwrites, "overwrite"), (Corrupts, "other bytes"), (KeepsAll, "still has"), (ListsNothing, "does not list")],
)
async def test_a_store_that_is_none(tmp_path: Path, kind: type[Store], words: str) -> None:
    found = await store_findings(lambda: kind((tmp_path / "store").as_uri()))
    assert words in only(found, "store", FindingState.BROKEN).found


async def test_probabilities_above_one(serve: Callable[[FastAPI], str]) -> None:
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def chat() -> dict[str, Any]:
        answer = completion(["a red square"])
        answer["choices"][0]["logprobs"]["content"][0]["logprob"] = 0.7
        return answer

    async with ChatClient(serve(app), model="teacher", timeout=10) as client:
        found = await teacher_findings(client)
    assert "not logarithms" in only(found, "teacher's logprobs", FindingState.BROKEN).found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Knows two checkpoints of the student, the first of which is active."""
    store = Store((tmp_path / "store").as_uri())
    registry = CheckpointRegistry(store, "student")
    registry.register_base(STUDENT)
    registry.publish(STUDENT, build_card(STUDENT, version="second", student="student"))
    return store


async def of_student(url: str, store: Store) -> list[Finding]:
    async with ChatClient(url, model="student", timeout=10) as client:
        return await student_findings(client, lambda: store, "student")


async def test_a_student_that_says_nothing(store: Store, serve: Callable[[FastAPI], str]) -> None:
    found = await of_student(serve(ScriptedModel(lambda _: ["?!"]).app()), store)
    assert "says nothing" in only(found, "student's answer", FindingState.BROKEN).found
    only(found, "student's version", FindingState.OK)


async def test_a_student_that_is_not_ours(store: Store, serve: Callable[[FastAPI], str]) -> None:
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def chat() -> dict[str, Any]:
        return completion(["a red square"])

    found = only(await of_student(serve(app), store), "student's version", FindingState.BROKEN)
    assert "does not report" in found.found and "MPA_STUDENT_URL" in found.fix


async def test_the_candidate_of_a_canary_may_answer(store: Store, serve: Callable[[FastAPI], str]) -> None:
    url = serve(ScriptedModel(wise_teacher, version="second").app())
    only(await of_student(url, store), "student's version", FindingState.BROKEN)
    request = CanaryRequest(version="second", share=0.5, by="test")
    CanaryRegistry(store, "student").start(request, baseline="base")
    assert "canary" in only(await of_student(url, store), "student's version", FindingState.OK).found


async def test_a_store_and_a_redis_here_for_services_elsewhere(tmp_path: Path) -> None:
    away = {f"{name}_url": f"http://{name}.invalid:1" for name in SERVICES}
    settings = ClientSettings(data_dir=tmp_path, **away)  # type: ignore[arg-type]
    services = {name: service(name, problem="away") for name in SERVICES}
    of_store, of_redis = await fit_findings(settings, services, 3.0)
    assert {of_store.state, of_redis.state} == {FindingState.WARNING}
    assert "not all services are on this machine" in of_store.found and "MPA_REDIS_URL" in of_redis.found


async def test_two_names_for_one_student(system: System, serve: Callable[[FastAPI], str], tmp_path: Path) -> None:
    common = {"data_dir": tmp_path, "store": system.environment["MPA_STORE"], "redis_url": system.redis.url}
    trainer = serve(make_trainer(TrainerSettings(**common, student_name="another")))  # type: ignore[arg-type]
    settings = ClientSettings(**common, student_url=system.environment["MPA_STUDENT_URL"], trainer_url=trainer)  # type: ignore[arg-type]
    services = {name: service(name, problem="not asked") for name in SERVICES}
    (found,) = await fit_findings(settings, services, 10.0)
    assert found.state is FindingState.BROKEN and "the students differ" in found.found
