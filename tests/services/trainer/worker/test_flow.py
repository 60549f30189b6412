"""A job from ``training`` to its end on a real Redis and store, also when its worker stops, crashes or is cancelled."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import services.trainer.worker.promotion
from services.student.app import build_app
from services.trainer.run_config import TrainResult, save
from services.trainer.worker.workspace import Workspace
from shared.checkpoints import CheckpointRegistry, verify_folder
from shared.client import StudentClient, image_question
from shared.contracts import GateSpec, JobState, Outcome
from shared.images import to_data_url
from shared.sets import set_digest
from shared.settings import StudentSettings
from shared.store import Store
from tests.quick_server import serving
from tests.services.trainer.played_job import PlayedJob
from tests.services.trainer.scripted_student import ScriptedStudent
from tests.services.trainer.small_set import QUESTION, TRAIN, Counts, job_spec, make_set


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_set_becomes_a_checkpoint_that_the_real_student_serves(
    job: PlayedJob, small_set: Store, tiny_student: Path, tmp_path: Path
) -> None:
    """Two child processes, a real swap: everything of a training but Celery."""
    labels = tmp_path / "labels.jsonl"
    image = sorted((tmp_path / "images").iterdir())[0]
    line = f'{{"image": "{image}", "task": "chart", "question": "what colour is it?", "answers": ["red"]}}\n'
    labels.write_text(line)
    serves = StudentSettings(data_dir=tmp_path, store=small_set.url, student_model=str(tiny_student))
    async with serving(build_app(serves)) as url, StudentClient(url, model="student") as served:
        urls = {"teacher_url": "http://127.0.0.1:1", "student_url": served.base_url}
        await job.submit(job_spec(TRAIN, gate=GateSpec(min_questions=1), benchmark=str(labels)))
        job.settings = job.settings.model_copy(update=urls)
        status = await job.run()
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
    job: PlayedJob, store: Store, registry: CheckpointRegistry, tmp_path: Path
) -> None:
    make_set(store, "j1", tmp_path / "images", Counts(disparity=0))
    await job.submit(job_spec(TRAIN))
    status = await job.run()
    assert (status.state, status.outcome) == (JobState.SUCCEEDED, Outcome.NO_GAP)
    assert registry.versions() == ["base"]


async def test_a_worker_that_died_is_continued_where_it_was(
    job: PlayedJob, small_set: Store, registry: CheckpointRegistry, student: ScriptedStudent
) -> None:
    job.measured(0.25, 0.75)
    await job.submit(job_spec(TRAIN))
    status = await job.run()
    assert status.outcome is Outcome.PROMOTED
    assert status.checkpoint == "job-j1"
    assert registry.active().version == "job-j1"
    swap = {"path": "/v1/checkpoints/active", "version": "job-j1", "by": "job j1"}
    deadline = 0.95 * job.settings.student_swap_timeout.total_seconds()
    assert student.asked == [{**swap, "deadline_seconds": deadline}]
    again = await job.run("w2")
    assert again == status
    assert len(student.asked) == 1


async def test_not_better_is_kept_but_can_be_promoted_by_hand(
    job: PlayedJob, small_set: Store, registry: CheckpointRegistry, student: ScriptedStudent
) -> None:
    job.measured(0.75, 0.5)
    await job.submit(job_spec(TRAIN))
    status = await job.run()
    assert (status.state, status.outcome) == (JobState.SUCCEEDED, Outcome.KEPT)
    assert "75.0% to 50.0%" in (status.reason or "")
    assert student.asked == []
    assert registry.active().version == "base"
    assert registry.versions() == ["base", "job-j1"]


async def test_a_training_that_changed_nothing_fails_in_words_and_publishes_nothing(
    job: PlayedJob, small_set: Store, registry: CheckpointRegistry, student: ScriptedStudent
) -> None:
    job.measured(0.25, 0.75)
    result = Workspace(small_set, "j1").folder() / "result.json"
    save(result, TrainResult(1, 0.5, 100.0, 8, 8, {"answer": 1.0}, changed_tensors=0))
    await job.submit(job_spec(TRAIN))
    status = await job.run()
    assert status.state is JobState.FAILED
    assert "changed no weight in 1 optimiser step" in (status.last_error or "")
    assert registry.versions() == ["base"] and student.asked == []


async def test_promotion_can_be_switched_off(job: PlayedJob, small_set: Store, registry: CheckpointRegistry) -> None:
    job.measured(0.25, 0.75)
    await job.submit(job_spec(TRAIN, gate=GateSpec(promote=False)))
    status = await job.run()
    assert status.outcome is Outcome.KEPT
    assert registry.active().version == "base"


async def test_a_bad_benchmark_fails_before_the_training(
    job: PlayedJob, small_set: Store, registry: CheckpointRegistry, tmp_path: Path
) -> None:
    (tmp_path / "bad.jsonl").write_text('{"image": "none.png", "task": "chart", "question": "q", "answers": ["a"]}\n')
    await job.submit(job_spec(TRAIN, benchmark=str(tmp_path / "bad.jsonl")))
    status = await job.run()
    assert status.state is JobState.FAILED
    assert "none.png" in (status.last_error or "")
    assert not small_set.exists("training/j1/run.json")


async def test_a_set_that_changed_is_trained_again_under_another_name(
    job: PlayedJob, small_set: Store, registry: CheckpointRegistry, tmp_path: Path
) -> None:
    job.measured(0.25, 0.75)
    await job.submit(job_spec(TRAIN))
    await job.run()
    small_set.delete("jobs/j1/set")
    make_set(small_set, "j1", tmp_path / "images", Counts(disparity=5))
    workspace = Workspace(small_set, "j1")
    start = workspace.begin(registry.active().version, set_digest(small_set, "j1"))
    assert start.base_version == "job-j1"
    assert not (workspace.folder() / "result.json").exists()
    name = services.trainer.worker.promotion.version_of(registry, "j1", start.set_digest)
    assert name == f"job-j1-{start.set_digest[:8]}"


async def test_a_cancelled_job_stops_the_training(
    job: PlayedJob, small_set: Store, registry: CheckpointRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, stopped = asyncio.Event(), asyncio.Event()

    async def endless(*_: object) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    monkeypatch.setattr("services.trainer.worker.candidate.run_phase", endless)
    await job.submit(job_spec(TRAIN))
    work = asyncio.create_task(job.run())

    async with asyncio.timeout(20):
        await started.wait()
    await job.jobs.cancel("j1")
    status = await asyncio.wait_for(work, 20)
    assert stopped.is_set()
    assert status.state is JobState.CANCELLED


async def test_stopping_the_worker_gives_the_training_back_uncounted(
    job: PlayedJob, small_set: Store, registry: CheckpointRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = asyncio.Event()

    async def endless(*_: object) -> None:
        started.set()
        await asyncio.Event().wait()

    monkeypatch.setattr("services.trainer.worker.candidate.run_phase", endless)
    await job.submit(job_spec(TRAIN))
    work = asyncio.create_task(job.run())
    await asyncio.wait_for(started.wait(), 20)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    snapshot = await job.jobs.snapshot("j1")
    assert snapshot.state is JobState.TRAINING
    assert snapshot.training.attempts == 0
    assert snapshot.training.is_free(snapshot.now)


async def test_only_one_of_two_workers_trains(
    job: PlayedJob, small_set: Store, registry: CheckpointRegistry, student: ScriptedStudent
) -> None:
    job.measured(0.25, 0.75)
    await job.submit(job_spec(TRAIN))
    await asyncio.gather(job.run("w1"), job.run("w2"))
    assert (await job.status()).outcome is Outcome.PROMOTED
    assert len(student.asked) == 1


async def test_crashes_are_tried_again_until_the_attempts_are_used_up(
    job: PlayedJob, small_set: Store, registry: CheckpointRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(*_: object) -> None:
        raise OSError("disk on fire")

    monkeypatch.setattr("services.trainer.worker.candidate.run_phase", crash)
    await job.submit(job_spec(TRAIN))
    states = [(await job.run()).state for _ in range(job.settings.train_attempts)]
    assert states == [JobState.TRAINING, JobState.TRAINING, JobState.FAILED]
    assert "disk on fire" in ((await job.status()).last_error or "")
