"""The parity service on a real Redis and store, with scripted models at the edge."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from services.parity.app import make_app
from services.parity.endpoints.evidence import RetryPolicy
from services.parity.mining.collector import Models
from services.parity.worker.__main__ import candidate_student, image_files
from services.parity.worker.job_inputs import JobInputs
from services.parity.worker.shard import ShardWork
from shared.client import ChatClient, ParityClient, StudentClient
from shared.contracts import JobSpec
from shared.images import ImageLimits
from shared.queue import make_celery
from shared.settings import ParitySettings
from shared.state import JobStore
from shared.store import Store
from shared.vqa.tasks import load_profiles
from tests.quick_server import ServerThread
from tests.scripted_models import ScriptedModel, weak_student, wise_teacher
from tests.services.parity.collecting import Submit, submitter

QUICK = RetryPolicy(first=0.02, longest=0.1, longest_asked=0.1, settled=0.5, settled_in_words=0.1)
TASKS = """
tasks:
  - name: chart
    metric: exact
    prompts: {ask: "ask a chart question.", ask_and_answer: "ask and answer.", answer: "{question}"}
    max_question_tokens: 16
    max_answer_tokens: 8
    refusals: ["unanswerable"]
  - name: text
    metric: exact
    prompts: {ask: "ask a text question.", ask_and_answer: "ask and answer.", answer: "{question}"}
    max_question_tokens: 16
    max_answer_tokens: 8
    refusals: ["unanswerable"]
"""


def png(number: int, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> bytes:
    """A small picture of one colour."""
    buffer = io.BytesIO()
    colour = (number * 37 % 256, number * 101 % 256, number % 256)
    Image.new("RGB", size, colour).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def pile(tmp_path: Path) -> Path:
    """Twenty readable images."""
    folder = tmp_path / "pile"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number:03d}.png").write_bytes(png(number))
    return folder


@pytest.fixture
def teacher() -> Iterator[tuple[ScriptedModel, ServerThread]]:
    model = ScriptedModel(wise_teacher)
    server = ServerThread(model.app())
    yield model, server
    server.leave()


@pytest.fixture
def student() -> Iterator[tuple[ScriptedModel, ServerThread]]:
    model = ScriptedModel(weak_student)
    server = ServerThread(model.app())
    yield model, server
    server.leave()


@pytest.fixture
def settings(
    tmp_path: Path,
    redis_url: str,
    tmp_store_url: str,
    teacher: tuple[ScriptedModel, ServerThread],
    student: tuple[ScriptedModel, ServerThread],
) -> ParitySettings:
    tasks_file = tmp_path / "tasks.yaml"
    tasks_file.write_text(TASKS)
    return ParitySettings(
        data_dir=tmp_path / "data",
        store=tmp_store_url,
        redis_url=redis_url,
        parity_port=0,
        teacher_url=teacher[1].url,
        student_url=student[1].url,
        tasks_file=tasks_file,
        image_roots=[tmp_path],
        lease=timedelta(seconds=6),
        reconcile_every=timedelta(seconds=0.2),
        calls_in_flight=8,
    )


@pytest.fixture
def tasks_with_reasons(settings: ParitySettings) -> None:
    """The tasks also have prompts that explain and check an answer. One more task, okvqa-plain, has neither."""
    assert settings.tasks_file is not None
    prompts = 'answer: "{question}", explain: "why {question} {answer}", check: "is the answer to {question} {answer}?"'
    plain = '{ask: "ask", ask_and_answer: "ask and answer.", answer: "{question}"}'
    text = settings.tasks_file.read_text().replace('answer: "{question}"', prompts)
    settings.tasks_file.write_text(f"{text}  - {{name: okvqa-plain, metric: exact, prompts: {plain}}}\n")


@pytest.fixture
def store(settings: ParitySettings) -> Store:
    return Store(settings.store_url)


@pytest.fixture
async def api(settings: ParitySettings) -> AsyncIterator[ParityClient]:
    """The API (and its reconciler) over real HTTP; no worker takes what it queues."""
    server = ServerThread(make_app(settings))
    async with ParityClient(server.url) as client:
        yield client
    server.stop()


@pytest.fixture
async def work(settings: ParitySettings, store: Store, jobs: JobStore) -> AsyncIterator[ShardWork]:
    """What a worker does with a message, without Celery around it."""
    teacher = ChatClient(settings.teacher_url, model="teacher", timeout=10)
    student = StudentClient(settings.student_url, model="student", timeout=10)
    async with teacher, student:
        yield ShardWork(
            jobs=jobs,
            store=store,
            inputs=JobInputs(store),
            profiles=load_profiles(settings.tasks_file),
            models=Models(teacher, student, 8, QUICK),
            candidate_student=lambda job, version: candidate_student(settings, job, version),
            files=image_files(settings, store),
            limits=ImageLimits.from_settings(settings),
            celery=make_celery(settings),
            owner="test-worker",
            lease=settings.lease.total_seconds(),
            shard_attempts=3,
            train_attempts=3,
        )


@pytest.fixture
def spec(pile: Path) -> Callable[..., dict[str, Any]]:
    """A spec over the pile; keyword arguments replace fields."""

    def make(**changes: Any) -> dict[str, Any]:
        base: dict[str, Any] = {
            "images": {"kind": "folder", "path": str(pile)},
            "tasks": ["chart"],
            "annotator": {"questions_per_image": 2},
            "identifier": {"votes": 3, "threshold": 0.6},
            "gate": {"held_out_fraction": 0.3},
            "shard_size": 5,
            "seed": 3,
        }
        return {**base, **changes}

    return make


@pytest.fixture
def submit(settings: ParitySettings, work: ShardWork) -> Submit:
    """Submits a spec and returns the job's id."""

    async def run(spec: dict[str, Any]) -> str:
        return (await submitter(settings, work).submit(JobSpec.model_validate(spec)))[0]

    return run
