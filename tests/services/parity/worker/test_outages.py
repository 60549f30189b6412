"""A bad minute of a model server changes no pair, and only the input that breaks it is refused."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response

from services.parity.endpoints.evidence import Health, RetryPolicy
from services.parity.worker.shard import ShardWork
from shared.client import ChatClient, StudentClient
from shared.contracts import JobState, Verdict
from shared.sets import read_set, set_digest
from shared.state import JobStore
from shared.store import Store
from tests.polling import async_wait_until
from tests.quick_server import ServerThread
from tests.scripted_models import Body, Script, completion, image_of, text_of, weak_student, wise_teacher
from tests.services.parity.collecting import Spec, Submit, collect

POLICY = RetryPolicy(first=0.02, longest=0.2, longest_asked=0.2, settled=1.5, settled_in_words=0.3)
BAD_MINUTE = 0.6
"""Longer than four tries would take."""


def _json(body: Any, status: int = 200) -> Response:
    return Response(json.dumps(body), status, media_type="application/json")


def _half(whole: Body) -> Response:
    """A body that ends before it is whole, as a cut connection leaves it."""
    response = Response(json.dumps(whole)[:-30], media_type="application/json")
    response.headers["Content-Length"] = str(len(json.dumps(whole)))
    return response


TROUBLES: dict[str, Callable[[Body], Response | None]] = {
    "500": lambda whole: _json({"error": {"message": "CUDA error"}}, 500),
    "400": lambda whole: _json({"error": {"message": "Bad Request"}}, 400),
    "400 image": lambda whole: _json({"error": {"message": "the image cannot be read"}}, 400),
    "401": lambda whole: _json({"error": {"message": "no such key"}}, 401),
    "404": lambda whole: _json({"error": {"message": "The model does not exist."}}, 404),
    "503": lambda whole: _json({"error": {"message": "starting"}}, 503),
    "page": lambda whole: Response("<html>Welcome to nginx!</html>", media_type="text/html"),
    "no choices": lambda whole: _json({**whole, "choices": []}),
    "cut": _half,
    "hangs": lambda whole: None,
}


@dataclass
class TroubledModel:
    """Answers by ``script``. From ``begins`` to ``ends`` (monotonic), a ``share`` of calls gets ``trouble`` instead."""

    script: Script
    trouble: Callable[[Body], Response | None] = TROUBLES["500"]
    begins: float = float("inf")
    ends: float = 0.0
    share: float = 1.0
    poison: Callable[[Body], Response | None] = lambda body: None
    random: random.Random = field(default_factory=lambda: random.Random(0))
    troubles: int = 0

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/v1/chat/completions")
        async def chat(request: Request) -> Response:
            body: Body = await request.json()
            whole = completion(self.script(body))
            if self.begins <= time.monotonic() < self.ends and self.random.random() < self.share:
                self.troubles += 1
                response = self.trouble(whole)
                if response is None:
                    await asyncio.sleep(max(0.0, self.ends - time.monotonic()))
                return response or _json({}, 504)
            return self.poison(body) or _json(whole)

        return app


@dataclass
class Troubled:
    work: ShardWork
    teacher: TroubledModel
    student: TroubledModel


@pytest.fixture
async def troubled(work: ShardWork) -> AsyncIterator[Troubled]:
    teacher, student = TroubledModel(wise_teacher), TroubledModel(weak_student)
    servers = [ServerThread(model.app()) for model in (teacher, student)]
    async with (
        ChatClient(servers[0].url, model="teacher", timeout=0.5) as one,
        StudentClient(servers[1].url, model="student", timeout=0.5) as other,
    ):
        models = replace(
            work.models,
            teacher=one,
            student=other,
            patience=POLICY,
            teacher_health=Health(),
            student_health=Health(),
        )
        yield Troubled(replace(work, models=models), teacher, student)
    for server in servers:
        server.leave()


async def _rows(troubled: Troubled, store: Store, job_id: str) -> dict[str, dict[str, Any]]:
    async with asyncio.timeout(60):
        await collect(troubled.work, job_id)
    rows = read_set(store, job_id).select(["image_index", "task", "slot", "verdict", "reason", "question", "votes"])
    return {f"{row['image_index']} {row['task']} {row['slot']}": row for row in rows.to_pylist()}


@pytest.mark.parametrize(
    ("kind", "which"),
    [("500", "teacher"), ("page", "student"), ("cut", "teacher"), ("hangs", "student"), ("400 image", "teacher")],
)
async def test_a_bad_minute_changes_no_pair(
    troubled: Troubled, submit: Submit, spec: Spec, store: Store, jobs: JobStore, kind: str, which: str
) -> None:
    calm, disturbed = await submit(spec()), await submit(spec())
    await _rows(troubled, store, calm)
    model = troubled.teacher if which == "teacher" else troubled.student
    model.trouble = TROUBLES[kind]
    model.begins, model.ends = time.monotonic() + 0.02, time.monotonic() + BAD_MINUTE
    await _rows(troubled, store, disturbed)
    assert model.troubles > 0
    assert set_digest(store, calm) == set_digest(store, disturbed)
    snapshot = await jobs.snapshot(disturbed)
    assert snapshot.state is JobState.TRAINING
    assert all(shard.attempts == 1 for shard in snapshot.round_shards().values())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_a_server_that_fails_now_and_then_changes_no_pair(
    troubled: Troubled, submit: Submit, spec: Spec, store: Store, seed: int
) -> None:
    calm, disturbed = await submit(spec()), await submit(spec())
    await _rows(troubled, store, calm)
    for model in (troubled.teacher, troubled.student):
        model.random, model.share = random.Random(seed), 0.3 + 0.2 * seed
        model.trouble = partial(_any_trouble, model.random)
        model.begins, model.ends = time.monotonic(), time.monotonic() + 2 * BAD_MINUTE
    await _rows(troubled, store, disturbed)
    assert set_digest(store, calm) == set_digest(store, disturbed)


def _any_trouble(chance: random.Random, whole: Body) -> Response | None:
    return TROUBLES[chance.choice(sorted(set(TROUBLES) - {"hangs"}))](whole)


@pytest.mark.parametrize("kind", ["500", "400 image", "cut"])
async def test_only_the_image_that_breaks_the_server_is_refused(
    troubled: Troubled, submit: Submit, spec: Spec, store: Store, kind: str
) -> None:
    calm, poisoned = await submit(spec()), await submit(spec())
    before = await _rows(troubled, store, calm)
    images: list[str] = []

    def poison(body: Body) -> Response | None:
        images.append(image_of(body))
        return TROUBLES[kind](completion(["x"])) if image_of(body) == images[0] else None

    troubled.teacher.poison = poison
    after = await _rows(troubled, store, poisoned)
    refused = {place for place, row in after.items() if row["verdict"] == Verdict.REFUSED}
    assert len(refused) == 2 and len({place.split()[0] for place in refused}) == 1
    assert {place: row for place, row in after.items() if place not in refused} == {
        place: row for place, row in before.items() if place not in refused
    }
    words = {"500": "CUDA error", "400 image": "the image cannot be read", "cut": "cannot be reached"}
    assert all(words[kind] in after[place]["reason"] for place in refused)


async def test_only_the_question_that_breaks_the_student_is_refused_through_a_bad_minute(
    troubled: Troubled, submit: Submit, spec: Spec, store: Store
) -> None:
    calm, poisoned = await submit(spec()), await submit(spec())
    before = await _rows(troubled, store, calm)
    number = next(row["question"] for row in before.values() if row["verdict"] == Verdict.DISPARITY)
    breaks = TROUBLES["500"]({})
    troubled.student.poison = lambda body: breaks if text_of(body) == number else None
    troubled.teacher.begins, troubled.teacher.ends = time.monotonic() + 0.05, time.monotonic() + BAD_MINUTE
    after = await _rows(troubled, store, poisoned)
    for place, row in after.items():
        asked = row["question"] == number and before[place]["verdict"] != Verdict.DUPLICATE
        assert row["verdict"] == (Verdict.REFUSED if asked else before[place]["verdict"])


async def test_a_server_that_refuses_everything_makes_the_job_wait_and_says_so(
    troubled: Troubled, submit: Submit, spec: Spec, store: Store, jobs: JobStore
) -> None:
    calm, job_id = await submit(spec()), await submit(spec())
    await _rows(troubled, store, calm)
    troubled.teacher.trouble, troubled.teacher.begins = TROUBLES["400 image"], 0.0
    troubled.teacher.ends = float("inf")
    running = asyncio.create_task(collect(troubled.work, job_id))
    words = await async_wait_until(lambda: _waiting(jobs, job_id))
    assert words.startswith("teacher at http://") and "the image cannot be read" in words
    troubled.teacher.ends = 0.0
    async with asyncio.timeout(30):
        await running
    assert (await jobs.get(job_id)).waiting_for is None
    assert set_digest(store, calm) == set_digest(store, job_id)


async def _waiting(jobs: JobStore, job_id: str) -> str:
    return (await jobs.get(job_id)).waiting_for or ""
