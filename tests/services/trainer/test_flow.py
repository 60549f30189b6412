"""A job from ``training`` to its end, on a real Redis and a real store."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import uvicorn

import services.trainer.promotion
from services.student.app import build_app
from services.trainer.config import EvaluationResult, TrainResult, save
from services.trainer.flow import TrainingFlow
from services.trainer.workspace import Workspace
from shared.checkpoints import CheckpointRegistry, verify_folder
from shared.client import StudentClient, image_question
from shared.contracts import (
    Evaluation,
    GateSpec,
    JobSpec,
    JobState,
    JobStatus,
    Outcome,
    StoredSpec,
    TaskScore,
    TrainSpec,
)
from shared.images import to_data_url
from shared.sets import set_digest
from shared.settings import StudentSettings, TrainerSettings
from shared.state import JobStore
from shared.store import Store
from tests.polling import async_wait_until
from tests.services.trainer.scripted_student import ScriptedStudent, scripted_student
from tests.services.trainer.small_set import QUESTION, TASKS_FILE, Counts, job_spec, make_set

TRAIN = TrainSpec(batch_size=8, max_steps=40, learning_rate=3e-3, save_every_steps=10)


@pytest.fixture
def student() -> Iterator[ScriptedStudent]:
    with scripted_student() as script:
        yield script


@pytest.fixture
async def jobs(redis_url: str) -> AsyncIterator[JobStore]:
    store = JobStore.from_url(redis_url)
    yield store
    await store.aclose()


@pytest.fixture
def registry(store: Store, tiny_student: Path) -> CheckpointRegistry:
    registry = CheckpointRegistry(store, "student")
    registry.register_base(tiny_student)
    return registry


@pytest.fixture
def settings(tmp_path: Path, redis_url: str, store: Store, student: ScriptedStudent) -> TrainerSettings:
    return TrainerSettings(
        data_dir=tmp_path,
        store=store.url,
        redis_url=redis_url,
        student_url=student.url,
        tasks_file=TASKS_FILE,
        train_threads=1,
        lease=3.0,  # type: ignore[arg-type]
    )


@asynccontextmanager
async def real_student(settings: StudentSettings) -> AsyncIterator[StudentClient]:
    server = uvicorn.Server(uvicorn.Config(build_app(settings), host="127.0.0.1", port=0, log_level="error"))
    task = asyncio.create_task(server.serve())

    async def started() -> bool:
        assert not task.done(), "the service ended while it started"
        return server.started

    await async_wait_until(started, timeout=120)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with StudentClient(f"http://127.0.0.1:{port}", model="student") as client:
        yield client
    server.should_exit = True
    await task


async def submit(jobs: JobStore, spec: JobSpec, job_id: str = "j1") -> None:
    """A job whose shards are done."""
    stored = StoredSpec(job_id=job_id, created_at=datetime.now(UTC), spec=spec, images=20, shards=1)
    await jobs.create(stored)
    await jobs.transition(job_id, JobState.QUEUED, JobState.COLLECTING)
    await jobs.transition(job_id, JobState.COLLECTING, JobState.TRAINING)


async def run(settings: TrainerSettings, store: Store, jobs: JobStore, owner: str = "w1") -> JobStatus:
    await TrainingFlow(settings, store, jobs, owner).run("j1")
    return await jobs.get("j1")


def trained_already(store: Store, base: Path, before: float, after: float) -> None:
    """What an earlier worker left that died just before it published."""
    workspace = Workspace(store, "j1")
    workspace.begin("base", set_digest(store, "j1"))
    folder = workspace.folder()
    shutil.copytree(base, folder / "candidate")
    save(folder / "result.json", TrainResult(40, 0.5, 100.0, 8, 8, {"answer": 1.0}))
    score = TaskScore(questions=4, agreement_before=before, agreement_after=after)
    save(folder / "evaluation.json", EvaluationResult(Evaluation(overall=score, tasks={"chart": score})))


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_set_becomes_a_checkpoint_that_the_real_student_serves(
    settings: TrainerSettings, small_set: Store, jobs: JobStore, tiny_student: Path, tmp_path: Path
) -> None:
    """Two child processes, a real swap: everything of a training but Celery."""
    labels = tmp_path / "labels.jsonl"
    image = sorted((tmp_path / "images").iterdir())[0]
    line = f'{{"image": "{image}", "task": "chart", "question": "what colour is it?", "answers": ["red"]}}\n'
    labels.write_text(line)
    serves = StudentSettings(data_dir=tmp_path, store=small_set.url, student_model=str(tiny_student))
    async with real_student(serves) as served:
        urls = {"teacher_url": "http://127.0.0.1:1", "student_url": served.base_url}
        await submit(jobs, job_spec(TRAIN, benchmark=str(labels)))
        status = await run(settings.model_copy(update=urls), small_set, jobs)
        question = image_question("student", to_data_url(image.read_bytes()), QUESTION, temperature=0.0, max_tokens=8)
        reply = await served.chat(question)
    assert (reply.checkpoint, reply.response.choices[0].message.content) == ("job-j1", "red")
    registry = CheckpointRegistry(small_set, "student")
    assert (status.state, status.outcome) == (JobState.SUCCEEDED, Outcome.PROMOTED), status.last_error
    assert status.evaluation is not None
    overall = status.evaluation.overall
    assert overall.questions == 4
    assert overall.agreement_after is not None
    assert overall.agreement_before is not None
    assert overall.agreement_after > overall.agreement_before
    assert overall.benchmark_questions == 1
    assert overall.accuracy_after == 1.0
    assert overall.accuracy_teacher is None
    assert status.training is not None
    assert (status.training.step, status.training.steps) == (40, 40)
    assert registry.active().version == "job-j1"
    assert registry.active().previous == "base"
    card = registry.card("job-j1")
    verify_folder(registry.local("job-j1"), card)
    assert (card.base, card.job_id, card.seed, card.train) == ("base", "j1", 3, TRAIN)
    assert card.set_digest == set_digest(small_set, "j1")
    assert card.loss.keys() == {"answer", "final"}
    assert card.smoke is not None
    assert card.smoke.answer in {"red", "green", "blue", "yellow"}
    assert {"torch", "transformers"} <= card.packages.keys()
    assert not list(small_set.open_local("training/j1").glob("steps"))


async def test_nothing_to_learn_is_no_gap(
    settings: TrainerSettings, store: Store, jobs: JobStore, registry: CheckpointRegistry, tmp_path: Path
) -> None:
    make_set(store, "j1", tmp_path / "images", Counts(disparity=0))
    await submit(jobs, job_spec(TRAIN))
    status = await run(settings, store, jobs)
    assert (status.state, status.outcome) == (JobState.SUCCEEDED, Outcome.NO_GAP)
    assert registry.versions() == ["base"]


async def test_a_worker_that_died_is_continued_where_it_was(
    settings: TrainerSettings,
    small_set: Store,
    jobs: JobStore,
    registry: CheckpointRegistry,
    student: ScriptedStudent,
    tiny_student: Path,
) -> None:
    trained_already(small_set, tiny_student, 0.25, 0.75)
    await submit(jobs, job_spec(TRAIN))
    status = await run(settings, small_set, jobs)
    assert status.outcome is Outcome.PROMOTED
    assert status.checkpoint == "job-j1"
    assert registry.active().version == "job-j1"
    swap = {"path": "/v1/checkpoints/active", "version": "job-j1", "by": "job j1"}
    deadline = 0.95 * settings.student_swap_timeout.total_seconds()
    assert student.asked == [{**swap, "deadline_seconds": deadline}]
    again = await run(settings, small_set, jobs, "w2")
    assert again == status
    assert len(student.asked) == 1


async def test_not_better_is_kept_but_can_be_promoted_by_hand(
    settings: TrainerSettings,
    small_set: Store,
    jobs: JobStore,
    registry: CheckpointRegistry,
    student: ScriptedStudent,
    tiny_student: Path,
) -> None:
    trained_already(small_set, tiny_student, 0.75, 0.5)
    await submit(jobs, job_spec(TRAIN))
    status = await run(settings, small_set, jobs)
    assert (status.state, status.outcome) == (JobState.SUCCEEDED, Outcome.KEPT)
    assert "75.0% to 50.0%" in (status.reason or "")
    assert student.asked == []
    assert registry.active().version == "base"
    assert registry.versions() == ["base", "job-j1"]


async def test_promotion_can_be_switched_off(
    settings: TrainerSettings, small_set: Store, jobs: JobStore, registry: CheckpointRegistry, tiny_student: Path
) -> None:
    trained_already(small_set, tiny_student, 0.25, 0.75)
    await submit(jobs, job_spec(TRAIN, gate=GateSpec(promote=False)))
    status = await run(settings, small_set, jobs)
    assert status.outcome is Outcome.KEPT
    assert registry.active().version == "base"


async def test_a_refused_checkpoint_fails_the_job_and_the_old_one_serves(
    settings: TrainerSettings,
    small_set: Store,
    jobs: JobStore,
    registry: CheckpointRegistry,
    student: ScriptedStudent,
    tiny_student: Path,
) -> None:
    trained_already(small_set, tiny_student, 0.25, 0.75)
    student.answers = [(422, "tensor 'x' has another shape")]
    await submit(jobs, job_spec(TRAIN))
    status = await run(settings, small_set, jobs)
    assert status.state is JobState.FAILED
    assert "tensor 'x' has another shape" in (status.last_error or "")
    assert registry.active().version == "base"


@pytest.mark.slow
async def test_a_student_that_is_down_is_waited_for(
    settings: TrainerSettings,
    small_set: Store,
    jobs: JobStore,
    registry: CheckpointRegistry,
    student: ScriptedStudent,
    tiny_student: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(services.trainer.promotion, "FIRST_PAUSE", 0.5)
    trained_already(small_set, tiny_student, 0.25, 0.75)
    student.answers = [(503, "the student is loading")] * 4
    await submit(jobs, job_spec(TRAIN))
    work = asyncio.create_task(run(settings, small_set, jobs))

    async def says_so() -> bool:
        waiting = (await jobs.get("j1")).waiting_for or ""
        return "student" in waiting and "loading" in waiting

    await async_wait_until(says_so, timeout=20)
    status = await asyncio.wait_for(work, 60)
    assert status.outcome is Outcome.PROMOTED
    assert status.waiting_for is None
    assert len(student.asked) == 5


async def test_a_student_without_any_checkpoint_is_waited_for(
    settings: TrainerSettings,
    small_set: Store,
    jobs: JobStore,
    tiny_student: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.trainer.flow.REGISTRY_PAUSE", 0.05)
    trained_already(small_set, tiny_student, 0.25, 0.75)
    await submit(jobs, job_spec(TRAIN))
    work = asyncio.create_task(run(settings, small_set, jobs))

    async def says_so() -> bool:
        return "no active checkpoint" in ((await jobs.get("j1")).waiting_for or "")

    await async_wait_until(says_so)
    CheckpointRegistry(small_set, "student").register_base(tiny_student)
    status = await asyncio.wait_for(work, 60)
    assert status.outcome is Outcome.PROMOTED


async def test_a_cancelled_job_stops_the_training(
    settings: TrainerSettings,
    small_set: Store,
    jobs: JobStore,
    registry: CheckpointRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stopped = asyncio.Event()

    async def endless(*_: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    monkeypatch.setattr("services.trainer.making.run_phase", endless)
    await submit(jobs, job_spec(TRAIN))
    work = asyncio.create_task(run(settings, small_set, jobs))

    async def held() -> bool:
        return (await jobs.snapshot("j1")).training.owner == "w1"

    await async_wait_until(held)
    await jobs.cancel("j1")
    status = await asyncio.wait_for(work, 20)
    assert stopped.is_set()
    assert status.state is JobState.CANCELLED


async def test_stopping_the_worker_gives_the_training_back_uncounted(
    settings: TrainerSettings,
    small_set: Store,
    jobs: JobStore,
    registry: CheckpointRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = asyncio.Event()

    async def endless(*_: object) -> None:
        started.set()
        await asyncio.Event().wait()

    monkeypatch.setattr("services.trainer.making.run_phase", endless)
    await submit(jobs, job_spec(TRAIN))
    work = asyncio.create_task(run(settings, small_set, jobs))
    await asyncio.wait_for(started.wait(), 20)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    snapshot = await jobs.snapshot("j1")
    assert snapshot.state is JobState.TRAINING
    assert snapshot.training.attempts == 0
    assert snapshot.training.is_free(snapshot.now)


async def test_only_one_of_two_workers_trains(
    settings: TrainerSettings,
    small_set: Store,
    jobs: JobStore,
    registry: CheckpointRegistry,
    student: ScriptedStudent,
    tiny_student: Path,
) -> None:
    trained_already(small_set, tiny_student, 0.25, 0.75)
    await submit(jobs, job_spec(TRAIN))
    await asyncio.gather(run(settings, small_set, jobs, "w1"), run(settings, small_set, jobs, "w2"))
    assert (await jobs.get("j1")).outcome is Outcome.PROMOTED
    assert len(student.asked) == 1


async def test_crashes_are_tried_again_until_the_attempts_are_used_up(
    settings: TrainerSettings,
    small_set: Store,
    jobs: JobStore,
    registry: CheckpointRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def crash(*_: object) -> None:
        raise OSError("disk on fire")

    monkeypatch.setattr("services.trainer.making.run_phase", crash)
    await submit(jobs, job_spec(TRAIN))
    states = [(await run(settings, small_set, jobs)).state for _ in range(settings.train_attempts)]
    assert states == [JobState.TRAINING, JobState.TRAINING, JobState.FAILED]
    assert "disk on fire" in ((await jobs.get("j1")).last_error or "")


async def test_a_bad_benchmark_fails_before_the_training(
    settings: TrainerSettings, small_set: Store, jobs: JobStore, registry: CheckpointRegistry, tmp_path: Path
) -> None:
    (tmp_path / "bad.jsonl").write_text('{"image": "none.png", "task": "chart", "question": "q", "answers": ["a"]}\n')
    await submit(jobs, job_spec(TRAIN, benchmark=str(tmp_path / "bad.jsonl")))
    status = await run(settings, small_set, jobs)
    assert status.state is JobState.FAILED
    assert "none.png" in (status.last_error or "")
    assert not small_set.exists("training/j1/run.json")


async def test_a_set_that_changed_is_trained_again_under_another_name(
    settings: TrainerSettings,
    small_set: Store,
    jobs: JobStore,
    registry: CheckpointRegistry,
    tiny_student: Path,
    tmp_path: Path,
) -> None:
    trained_already(small_set, tiny_student, 0.25, 0.75)
    await submit(jobs, job_spec(TRAIN))
    await run(settings, small_set, jobs)
    small_set.delete("jobs/j1/set")
    make_set(small_set, "j1", tmp_path / "images", Counts(disparity=5))
    workspace = Workspace(small_set, "j1")
    start = workspace.begin(registry.active().version, set_digest(small_set, "j1"))
    assert start.base_version == "job-j1"
    assert not (workspace.folder() / "result.json").exists()
    name = services.trainer.promotion.version_of(registry, "j1", start.set_digest)
    assert name == f"job-j1-{start.set_digest[:8]}"
