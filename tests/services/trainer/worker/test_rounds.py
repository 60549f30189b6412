"""When a job stops mining, which candidate it ends with, and what a round trains on."""

from __future__ import annotations

import pytest

from services.trainer.data.dataset import read_held_out, read_training_set
from services.trainer.worker.rounds import judged, mined, trained
from shared.contracts import GateSpec, RoundReport, RoundsSpec, Split, Verdict
from shared.sets import read_set
from shared.sets.rounds import EXAMPLES
from shared.store import Store
from tests.services.trainer.played_job import scores
from tests.services.trainer.small_rounds import KINDS, spec_of, write_round


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
