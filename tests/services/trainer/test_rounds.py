"""When a job stops mining, which candidate it ends with, and that a trainer's death anywhere changes neither."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.trainer.config import EvaluationResult, TrainResult, save
from services.trainer.dataset import read_held_out, read_training_set
from services.trainer.flow import TrainingFlow
from services.trainer.rounds import judged, mined, trained
from services.trainer.workspace import Workspace
from shared.checkpoints import CheckpointRegistry
from shared.contracts import (
    Evaluation,
    GateSpec,
    JobSpec,
    JobState,
    JobStatus,
    Outcome,
    RoundReport,
    RoundsSpec,
    Split,
    StoredSpec,
    TaskScore,
    TrainSpec,
    Verdict,
)
from shared.rounds import EXAMPLES, read_round, read_rounds
from shared.sets import Row, read_set, set_digest, write_shard
from shared.settings import TrainerSettings
from shared.state import JobStore
from shared.store import Store
from tests.services.trainer.scripted_student import ScriptedStudent, scripted_student
from tests.services.trainer.small_set import TASKS_FILE, job_spec, make_set

KINDS = (
    [(Verdict.DISPARITY, Split.TRAIN)] * 3
    + [(Verdict.STUDENT_RIGHT, Split.TRAIN)] * 5
    + [(Verdict.STUDENT_RIGHT, Split.HELD_OUT)] * 2
    + [(Verdict.DUPLICATE, Split.TRAIN)] * 10
)


def spec_of(rounds: RoundsSpec, gate: GateSpec | None = None) -> JobSpec:
    return job_spec(TrainSpec(max_steps=1), gate=gate).model_copy(update={"rounds": rounds})


def write_round(store: Store, number: int, kinds: Sequence[tuple[Verdict, Split]] = KINDS) -> None:
    """One shard, which is a round's only one."""
    rows = [
        Row(
            job_id="j1",
            shard=number - 1,
            image_index=index,
            slot=0,
            image=str(index),
            image_sha256=str(index),
            task="chart" if index % 2 else "text",
            split=split,
            verdict=verdict,
            question=f"question {index} of round {number}?",
            teacher_answer="red",
            round=number,
        )
        for index, (verdict, split) in enumerate(kinds)
    ]
    write_shard(store, "j1", number - 1, rows)


def scores(before: float, after: float, chart: float | None = None) -> EvaluationResult:
    overall = TaskScore(questions=10, agreement_before=before, agreement_after=after)
    task = overall.model_copy(update={"agreement_after": after if chart is None else chart})
    return EvaluationResult(Evaluation(overall=overall, tasks={"chart": task}))


def past_round(number: int, after: float, *, good: bool = True) -> RoundReport:
    evaluation = scores(0.5, after).evaluation
    report = RoundReport(round=number, student="base", pairs=1, verdicts={}, disparity_rate=0.3, candidate=f"c{number}")
    return report.model_copy(update={"evaluation": evaluation, "good": good, "goes_on": good})


def test_a_round_is_summed_up_from_its_own_rows(store: Store) -> None:
    write_round(store, 1)
    write_round(store, 2, KINDS[:2])
    found = mined(spec_of(RoundsSpec(max=3)), 1, "base", read_set(store, "j1", rounds=[1]), 3)
    assert found.worth_training
    report = found.report
    assert report.pairs == 20
    assert report.verdicts == {Verdict.DISPARITY: 3, Verdict.STUDENT_RIGHT: 7, Verdict.DUPLICATE: 10}
    assert report.disparity_rate == pytest.approx(0.3), "duplicates were not checked"
    assert {task: share.disparity for task, share in report.tasks.items()} == {"chart": 1, "text": 2}
    assert report.failed_questions["chart"] == ["question 1 of round 1?"]
    many = [(Verdict.DISPARITY, Split.TRAIN), (Verdict.DISPARITY, Split.HELD_OUT)] * 100
    write_round(store, 3, many)
    questions = mined(spec_of(RoundsSpec()), 3, "c2", read_set(store, "j1", rounds=[3]), 9).report.failed_questions
    assert {task: len(texts) for task, texts in questions.items()} == {"text": EXAMPLES}, "none of held-out images"


@pytest.mark.parametrize(
    ("number", "rate", "pairs", "worth"),
    [(1, 0.001, 1, True), (1, 0.5, 0, False), (2, 0.19, 9, False), (2, 0.2, 9, True), (2, 0.5, 0, False)],
)
def test_a_later_round_with_few_disparities_is_not_trained(
    store: Store, number: int, rate: float, pairs: int, worth: bool
) -> None:
    kept = round(1000 * rate)
    kinds = [(Verdict.DISPARITY, Split.TRAIN)] * kept + [(Verdict.STUDENT_RIGHT, Split.TRAIN)] * (1000 - kept)
    write_round(store, number, kinds)
    spec = spec_of(RoundsSpec(max=3, min_disparity=0.2))
    found = mined(spec, number, "base", read_set(store, "j1"), pairs)
    assert found.worth_training == worth
    assert (found.report.reason == "") == worth


@pytest.mark.parametrize(
    ("number", "before", "after", "chart", "rate", "goes_on", "good", "words"),
    [
        (1, [], 0.6, None, 0.3, True, True, "round 2 follows"),
        (2, [0.6], 0.7, None, 0.3, True, True, "round 3 follows"),
        (3, [0.6, 0.7], 0.8, None, 0.3, False, True, "rounds.max is 3"),
        (2, [0.6], 0.605, None, 0.3, False, True, "less than rounds.min_gain (1.0%)"),
        (2, [0.6], 0.6, None, 0.3, False, False, "no better than before"),
        (2, [0.6], 0.55, None, 0.3, False, False, "no better than before"),
        (1, [], 0.4, None, 0.3, False, False, "no better than before"),
        (1, [], 0.6, 0.3, 0.3, False, False, "lost more than gate.tolerance"),
        (1, [], 0.6, None, 0.05, False, True, "less than rounds.min_disparity (10.0%)"),
    ],
)
def test_what_stops_a_job(
    number: int,
    before: list[float],
    after: float,
    chart: float | None,
    rate: float,
    goes_on: bool,
    good: bool,
    words: str,
) -> None:
    spec = spec_of(RoundsSpec(max=3, min_gain=0.01, min_disparity=0.1), GateSpec(promote=False))
    past = [past_round(index, score) for index, score in enumerate(before, 1)]
    report = RoundReport(round=number, student="x", pairs=9, verdicts={}, disparity_rate=rate)
    over = trained(spec, report, past, f"c{number}", scores(0.5, after, chart))
    assert (over.goes_on, over.good) == (goes_on, good), over.reason
    assert words in over.reason
    assert over.gain == pytest.approx(after - (before[-1] if before else 0.5))


def test_the_last_good_candidate_is_judged() -> None:
    good, bad = past_round(1, 0.6), past_round(2, 0.4, good=False)
    empty = RoundReport(round=2, student="c1", pairs=0, verdicts={})
    assert judged([good, bad]) == good
    assert judged([good, empty]) == good
    assert judged([past_round(1, 0.6), past_round(2, 0.7)]).candidate == "c2"  # type: ignore[union-attr]
    assert judged([bad]) == bad, "so that the job says why it is kept"
    assert judged([empty]) is None


def test_former_disparities_are_replayed_and_former_held_out_stays(store: Store) -> None:
    write_round(store, 1)
    write_round(store, 2)
    data = read_training_set(store, "j1", 2)
    assert (data.disparity, data.replay) == (3, 3 + 5)
    assert [sample.is_replay for sample in data.samples] == [False] * 3 + [True] * 8
    origins = [sample.question.rpartition(" ")[2] for sample in data.samples]
    assert origins == ["2?"] * 3 + ["1?"] * 3 + ["2?"] * 5
    assert len(read_held_out(store, "j1", 1)) == len(read_held_out(store, "j1", 2)) == 2
    assert {sample.question[-8:] for sample in read_held_out(store, "j1")} == {"round 1?"}
    assert len({sample.pair_id for sample in data.samples}) == len(data)


# ------------------------------------------------------------ the trainer's side of the state machine


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


class Job:
    """A job with rounds whose mining and gradients the test plays; everything else is the trainer's own."""

    def __init__(self, settings: TrainerSettings, store: Store, jobs: JobStore, base: Path) -> None:
        self.settings, self.store, self.jobs, self.base = settings, store, jobs, base

    async def submit(self, rounds: RoundsSpec, gate: GateSpec | None = None) -> None:
        stored = StoredSpec(job_id="j1", created_at=datetime.now(UTC), spec=spec_of(rounds, gate), images=20, shards=1)
        await self.jobs.create(stored)
        await self.jobs.transition("j1", JobState.QUEUED, JobState.COLLECTING)

    def measured(self, number: int, started_from: str, before: float, after: float) -> None:
        """What a worker left that died between its evaluation and the publication."""
        workspace = Workspace(self.store, "j1", number)
        workspace.begin(started_from, set_digest(self.store, "j1"))
        folder = workspace.folder()
        shutil.copytree(self.base, folder / "candidate")
        save(folder / "result.json", TrainResult(1, 0.5, 100.0, 3, 5, {"answer": 1.0}))
        save(folder / "evaluation.json", scores(before, after))

    async def run(self) -> JobStatus:
        await self.jobs.transition("j1", JobState.COLLECTING, JobState.TRAINING)
        await TrainingFlow(self.settings, self.store, self.jobs, "w1").run("j1")
        return await self.jobs.get("j1")


@pytest.fixture
def job(settings: TrainerSettings, store: Store, jobs: JobStore, tiny_student: Path) -> Job:
    return Job(settings, store, jobs, tiny_student)


async def test_each_round_starts_from_the_candidate_before_and_the_best_is_promoted(
    job: Job, store: Store, registry: CheckpointRegistry, student: ScriptedStudent
) -> None:
    await job.submit(RoundsSpec(max=3))
    write_round(store, 1)
    job.measured(1, "base", 0.5, 0.6)
    status = await job.run()
    assert (status.state, status.round, status.checkpoint) == (JobState.COLLECTING, 2, None), status.last_error
    assert student.asked == [], "production keeps what it has"
    write_round(store, 2)
    job.measured(2, "job-j1", 0.5, 0.7)
    status = await job.run()
    assert (status.state, status.round) == (JobState.COLLECTING, 3), status.last_error
    write_round(store, 3)
    job.measured(3, "job-j1-r2", 0.5, 0.65)
    status = await job.run()
    assert (status.state, status.outcome, status.round) == (JobState.SUCCEEDED, Outcome.PROMOTED, 3), status.last_error
    assert (status.checkpoint, registry.active().version, registry.active().previous) == (
        "job-j1-r2",
        "job-j1-r2",
        "base",
    )
    assert status.evaluation == scores(0.5, 0.7).evaluation
    assert [(r.candidate, r.good, r.goes_on) for r in status.past_rounds] == [
        ("job-j1", True, True),
        ("job-j1-r2", True, True),
        ("job-j1-r3", False, False),
    ]
    assert [registry.card(f"job-j1{end}").base for end in ("", "-r2", "-r3")] == ["base", "job-j1", "job-j1-r2"]
    assert [asked["version"] for asked in student.asked] == ["job-j1-r2"]


async def test_a_round_that_finds_little_ends_the_job_with_the_candidate_before(
    job: Job, store: Store, registry: CheckpointRegistry
) -> None:
    await job.submit(RoundsSpec(max=3, min_disparity=0.2))
    write_round(store, 1)
    job.measured(1, "base", 0.5, 0.6)
    await job.run()
    write_round(store, 2, [(Verdict.DISPARITY, Split.TRAIN), *[(Verdict.STUDENT_RIGHT, Split.TRAIN)] * 9])
    status = await job.run()
    assert (status.outcome, status.checkpoint) == (Outcome.PROMOTED, "job-j1")
    assert "10.0% of the checked pairs are disparities" in status.past_rounds[-1].reason
    assert status.past_rounds[-1].candidate is None
    assert not store.exists("training/j1/rounds/2/run.json")


async def test_no_gain_in_the_first_round_is_kept_as_without_rounds(
    job: Job, store: Store, registry: CheckpointRegistry, student: ScriptedStudent
) -> None:
    await job.submit(RoundsSpec(max=3))
    write_round(store, 1)
    job.measured(1, "base", 0.7, 0.6)
    status = await job.run()
    assert (status.state, status.outcome) == (JobState.SUCCEEDED, Outcome.KEPT)
    assert "70.0% to 60.0%" in (status.reason or "")
    assert student.asked == []


async def test_nothing_to_learn_in_the_first_round_is_no_gap(
    job: Job, store: Store, registry: CheckpointRegistry
) -> None:
    await job.submit(RoundsSpec(max=3))
    write_round(store, 1, [(Verdict.STUDENT_RIGHT, Split.TRAIN)] * 4)
    assert (await job.run()).outcome is Outcome.NO_GAP


async def test_a_trainer_that_died_after_it_published_the_round_only_moves_the_job_on(
    job: Job, jobs: JobStore, store: Store, registry: CheckpointRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(*_: object) -> None:
        raise OSError("killed")

    await job.submit(RoundsSpec(max=2))
    write_round(store, 1)
    job.measured(1, "base", 0.5, 0.6)
    with monkeypatch.context() as patched:
        patched.setattr("shared.state.trainings.TrainingLeases.next_round", die)
        assert (await job.run()).state is JobState.EVALUATING
    published = store.read("jobs/j1/rounds/1.json")
    store.delete("training/j1")  # not even this is needed any more
    status = await job.run()
    assert (status.state, status.round) == (JobState.COLLECTING, 2)
    assert store.read("jobs/j1/rounds/1.json") == published
    assert (await jobs.snapshot("j1")).training.attempts == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_two_rounds_with_real_gradients(
    job: Job, store: Store, registry: CheckpointRegistry, tmp_path: Path
) -> None:
    """The second round trains the first one's candidate on pairs of both, and measures on the first one's held-out."""
    train = TrainSpec(batch_size=8, max_steps=40, learning_rate=3e-3, save_every_steps=50)
    spec = job_spec(train, gate=GateSpec(promote=False)).model_copy(update={"rounds": RoundsSpec(max=2, min_gain=0)})
    await job.jobs.create(StoredSpec(job_id="j1", created_at=datetime.now(UTC), spec=spec, images=20, shards=1))
    await job.jobs.transition("j1", JobState.QUEUED, JobState.COLLECTING)
    make_set(store, "j1", tmp_path / "images")
    status = await job.run()
    assert (status.state, status.round) == (JobState.COLLECTING, 2), status.last_error or status.reason
    first = read_round(store, "j1", 1)
    rows = read_set(store, "j1").to_pylist()
    again = [Row(**{**_fields(row), "round": 2, "shard": 1, "question": "what is its colour?"}) for row in rows]
    write_shard(store, "j1", 1, again)
    status = await job.run()
    assert status.state is JobState.SUCCEEDED, status.last_error
    second = read_rounds(store, "j1")[1]
    assert first is not None
    assert second.evaluation is not None
    assert second.evaluation_new is not None
    assert first.evaluation is not None
    assert second.evaluation.overall.questions == second.evaluation_new.overall.questions == 4
    assert second.evaluation.overall.agreement_before == first.evaluation.overall.agreement_before
    assert registry.card("job-j1-r2").base == "job-j1"
    assert store.exists("training/j1/rounds/2/result.json")


def _fields(row: dict[str, object]) -> dict[str, object]:
    kept = {name: value for name, value in row.items() if name in Row.__dataclass_fields__ and value is not None}
    return {**kept, "votes": tuple(row["votes"])}  # type: ignore[arg-type]
