"""When a job stops mining, which candidate it ends with, what a round trains on and starts from."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.trainer.data.dataset import read_held_out, read_training_set
from services.trainer.worker.rounds import judged, mined, trained
from shared.checkpoints import CheckpointRegistry
from shared.contracts import GateSpec, JobState, Outcome, RoundReport, RoundsSpec, Split, TrainSpec, Verdict
from shared.sets import Row, read_set, write_shard
from shared.sets.rounds import EXAMPLES, read_round, read_rounds
from shared.state import JobStore
from shared.store import Store
from tests.services.trainer.played_job import PlayedJob, scores
from tests.services.trainer.scripted_student import ScriptedStudent
from tests.services.trainer.small_rounds import KINDS, spec_of, write_round
from tests.services.trainer.small_set import job_spec, make_set


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


async def test_each_round_starts_from_the_candidate_before_and_the_best_is_promoted(
    job: PlayedJob, store: Store, registry: CheckpointRegistry, student: ScriptedStudent
) -> None:
    await job.submit(spec_of(RoundsSpec(max=3)))
    write_round(store, 1)
    job.measured(0.5, 0.6)
    status = await job.run()
    assert (status.state, status.round, status.checkpoint) == (JobState.COLLECTING, 2, None), status.last_error
    assert student.asked == [], "production keeps what it has"
    write_round(store, 2)
    job.measured(0.5, 0.7, number=2, started_from="job-j1")
    status = await job.run()
    assert (status.state, status.round) == (JobState.COLLECTING, 3), status.last_error
    write_round(store, 3)
    job.measured(0.5, 0.65, number=3, started_from="job-j1-r2")
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
    job: PlayedJob, store: Store, registry: CheckpointRegistry
) -> None:
    await job.submit(spec_of(RoundsSpec(max=3, min_disparity=0.2)))
    write_round(store, 1)
    job.measured(0.5, 0.6)
    await job.run()
    write_round(store, 2, [(Verdict.DISPARITY, Split.TRAIN), *[(Verdict.STUDENT_RIGHT, Split.TRAIN)] * 9])
    status = await job.run()
    assert (status.outcome, status.checkpoint) == (Outcome.PROMOTED, "job-j1")
    assert "10.0% of the checked pairs are disparities" in status.past_rounds[-1].reason
    assert status.past_rounds[-1].candidate is None
    assert not store.exists("training/j1/rounds/2/run.json")


async def test_no_gain_in_the_first_round_is_kept_as_without_rounds(
    job: PlayedJob, store: Store, registry: CheckpointRegistry, student: ScriptedStudent
) -> None:
    await job.submit(spec_of(RoundsSpec(max=3)))
    write_round(store, 1)
    job.measured(0.7, 0.6)
    status = await job.run()
    assert (status.state, status.outcome) == (JobState.SUCCEEDED, Outcome.KEPT)
    assert "70.0% to 60.0%" in (status.reason or "")
    assert student.asked == []


async def test_nothing_to_learn_in_the_first_round_is_no_gap(
    job: PlayedJob, store: Store, registry: CheckpointRegistry
) -> None:
    await job.submit(spec_of(RoundsSpec(max=3)))
    write_round(store, 1, [(Verdict.STUDENT_RIGHT, Split.TRAIN)] * 4)
    assert (await job.run()).outcome is Outcome.NO_GAP


async def test_a_trainer_that_died_after_it_published_the_round_only_moves_the_job_on(
    job: PlayedJob, jobs: JobStore, store: Store, registry: CheckpointRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(*_: object) -> None:
        raise OSError("killed")

    await job.submit(spec_of(RoundsSpec(max=2)))
    write_round(store, 1)
    job.measured(0.5, 0.6)
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
    job: PlayedJob, store: Store, registry: CheckpointRegistry, tmp_path: Path
) -> None:
    """The second round trains the first one's candidate on pairs of both, and measures on the first one's held-out."""
    train = TrainSpec(batch_size=8, max_steps=40, learning_rate=3e-3, save_every_steps=50)
    spec = job_spec(train, gate=GateSpec(promote=False, min_questions=1)).model_copy(
        update={"rounds": RoundsSpec(max=2, min_gain=0)}
    )
    await job.submit(spec)
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
