"""What `mpa doctor` finds about the answers of the teacher and the student."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from services.cli.doctor.models import student_findings, teacher_findings
from shared.checkpoints import CheckpointRegistry, build_card
from shared.checkpoints.canaries import CanaryRegistry
from shared.client import ChatClient
from shared.contracts import CanaryRequest, Finding, FindingState
from shared.store import Store
from tests.scripted_models import Body, ScriptedModel, Text, completion, wise_teacher
from tests.services.cli.doctor.running_doctor import (
    BROKEN,
    WARNING,
    findings,
    mpa,
    one_finding,
    only,
)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("model", "check", "state", "words"),
    [
        (ScriptedModel(lambda _: ["..."]), "teacher's answer", BROKEN, "says nothing"),
        (ScriptedModel(lambda _: ["a" * 40]), "teacher's answer", BROKEN, "repeats 'a'"),
        (ScriptedModel(lambda _: ["a\ufffd b"]), "teacher's answer", BROKEN, "not valid text"),
        (ScriptedModel(lambda _: ["a cat"]), "teacher's answer", BROKEN, "sees neither"),
        (
            ScriptedModel(lambda _: [{"content": None, "reasoning": "Okay", "finish_reason": "length"}]),
            "teacher's answer",
            BROKEN,
            "still thinking after 24 tokens",
        ),
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


@pytest.mark.usefixtures("environment")
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


STUDENT = Path("demo/models/student").absolute()


async def test_probabilities_above_one(serve: Callable[[FastAPI], str]) -> None:
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def chat() -> dict[str, Any]:
        answer = completion(["a red square"])
        answer["choices"][0]["logprobs"]["content"][0]["logprob"] = 0.7
        return answer

    async with ChatClient(serve(app), model="teacher", timeout=10) as client:
        found = await teacher_findings(client)
    assert "not logarithms" in one_finding(found, "teacher's logprobs", FindingState.BROKEN).found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Knows two checkpoints of the student, the first of which is active."""
    store = Store((tmp_path / "store").as_uri())
    registry = CheckpointRegistry(store, "student")
    registry.register_base(STUDENT)
    registry.publish(STUDENT, build_card(STUDENT, version="second", student="student"))
    return store


async def of_student(url: str, store: Store, reasoning_tokens: int = 0) -> list[Finding]:
    async with ChatClient(url, model="student", timeout=10) as client:
        return await student_findings(client, lambda: store, "student", reasoning_tokens)


async def test_a_student_that_says_nothing(store: Store, serve: Callable[[FastAPI], str]) -> None:
    found = await of_student(serve(ScriptedModel(lambda _: ["?!"]).app()), store)
    assert "says nothing" in one_finding(found, "student's answer", FindingState.BROKEN).found
    one_finding(found, "student's version", FindingState.OK)


async def test_a_student_that_is_still_thinking(store: Store, serve: Callable[[FastAPI], str]) -> None:
    def think(body: Body) -> list[Text]:
        return ["<think>hm</think>red" if body["max_tokens"] > 500 else "<think>Okay, the user wants"]

    url = serve(ScriptedModel(think).app())
    found = one_finding(await of_student(url, store), "student's answer", FindingState.BROKEN)
    assert "still thinking after 24 tokens" in found.found and "MPA_STUDENT_REASONING_TOKENS" in found.fix
    one_finding(await of_student(url, store, 1000), "student's answer", FindingState.OK)


async def test_a_student_that_is_not_ours(store: Store, serve: Callable[[FastAPI], str]) -> None:
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def chat() -> dict[str, Any]:
        return completion(["a red square"])

    found = one_finding(await of_student(serve(app), store), "student's version", FindingState.BROKEN)
    assert "does not report" in found.found and "MPA_STUDENT_URL" in found.fix


async def test_the_candidate_of_a_canary_may_answer(store: Store, serve: Callable[[FastAPI], str]) -> None:
    url = serve(ScriptedModel(wise_teacher, version="second").app())
    one_finding(await of_student(url, store), "student's version", FindingState.BROKEN)
    request = CanaryRequest(version="second", share=0.5, by="test")
    CanaryRegistry(store, "student").start(request, baseline="base")
    assert "canary" in one_finding(await of_student(url, store), "student's version", FindingState.OK).found
