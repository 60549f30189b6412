from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from demo.ablation.arms import ARMS, DISCREPANCY, NOTHING, PAPER, Arm, Pairs
from demo.ablation.labels import label_quality
from demo.ablation.measuring import Meter
from demo.ablation.mining import Mined, write_set
from demo.ablation.report import markdown, show, summarise
from demo.ablation.running import Settings, prepare, run_arm
from demo.ablation.testing import answered_right, questions, score
from demo.answering import Answerer
from demo.simulation.pairs import draw_pile
from demo.world.vocabulary import FAMILIES, REFUSAL
from demo.world.vocabulary import Split as WorldSplit
from shared.contracts import Split, Verdict
from shared.sets import Row, read_set
from shared.store import Store
from shared.vlm.loading import load_model
from shared.vlm.prompting import question_prompt
from tests.scoring import score_answers

TEACHER, STUDENT = Path("demo/models/teacher"), Path("demo/models/student")


def mined(number: int, teacher: str, student: str, truth: str, votes: tuple[str, ...]) -> Mined:
    row = Row(
        job_id="",
        shard=0,
        image_index=number,
        slot=0,
        image=f"/pile/{number}.png",
        image_sha256="0" * 64,
        task="know",
        split=Split.TRAIN,
        verdict=Verdict.DISPARITY,
        question="what is this?",
        teacher_answer=teacher,
        student_answer=student,
        votes=votes,
        vote_share=votes.count(teacher) / len(votes),
        teacher_logprob=-0.01 if votes.count(teacher) == len(votes) else -1.0,
    )
    return Mined(row, truth)


PAIRS = [
    mined(0, "dog", "cat", "dog", ("dog",) * 3),
    mined(1, "cat", "cat", "cat", ("cat",) * 3),
    mined(2, "cow", "pig", "pig", ("cow", "pig", "cow")),
    mined(3, "bus", "car", REFUSAL, ("car", "car", "car")),
    mined(4, "owl", "owl", "bee", ("owl", "bee", "owl")),
]


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (Pairs.EVERYTHING, {"disparity": [0, 1, 2, 3, 4]}),
        (Pairs.CONSISTENT, {"disparity": [0, 1]}),
        (Pairs.PARITY, {"disparity": [0], "student_right": [1, 4], "teacher_inconsistent": [2, 3]}),
        (Pairs.LENIENT, {"disparity": [0, 2], "student_right": [1, 4], "teacher_inconsistent": [3]}),
        (Pairs.TRUTH, {"disparity": [0, 4], "student_right": [1, 2]}),
    ],
)
def test_each_arm_trains_on_the_pairs_it_is_about(tmp_path: Path, pairs: Pairs, expected: dict[str, list[int]]) -> None:
    store = Store(tmp_path.as_uri())
    assert write_set(store, "job", PAIRS, pairs) == len(expected["disparity"])
    found: dict[str, list[int]] = {}
    for row in read_set(store, "job").to_pylist():
        found.setdefault(row["verdict"], []).append(row["image_index"])
    assert found == expected


def test_the_ground_truth_arm_learns_the_worlds_answers(tmp_path: Path) -> None:
    store = Store(tmp_path.as_uri())
    write_set(store, "job", PAIRS, Pairs.TRUTH)
    answers = {row["image_index"]: row["teacher_answer"] for row in read_set(store, "job").to_pylist()}
    assert answers == {0: "dog", 1: "cat", 2: "pig", 4: "bee"}


def test_label_quality_counts_right_labels_among_those_kept() -> None:
    table = label_quality(PAIRS)
    assert table["everything"] == {"kept": 5, "precision": 0.4, "recall": 1.0}
    assert table["student wrong"] == {"kept": 3, "precision": pytest.approx(1 / 3), "recall": 1.0}
    assert table["all votes agree"] == {"kept": 1, "precision": 1.0, "recall": 1.0}


def test_all_arms_take_the_same_number_of_steps() -> None:
    assert {arm.spec(300).max_steps * arm.rounds for arm in ARMS} == {300}
    assert len({arm.name for arm in ARMS}) == len(ARMS)
    paper = next(arm for arm in ARMS if arm.name == PAPER).spec(300)
    assert paper.replay_fraction == 0
    assert next(arm for arm in ARMS if arm.name == DISCREPANCY).spec(300).loss.preset == "discrepancy"


def test_forgetting_is_what_was_right_before_and_is_wrong_now() -> None:
    families = ["chart", "chart", "text", "know"]
    found = score([True, False, True, True], [True, True, False, True], families)
    assert found.overall == 0.75
    assert found.families == {"chart": 0.5, "text": 1.0, "sttext": 0.0, "know": 1.0}
    assert found.forgotten == pytest.approx(1 / 3)
    assert found.forgotten_by_family["chart"] == 0.5


def test_the_summary_has_means_and_spreads_over_seeds() -> None:
    asked = questions(WorldSplit.DEV, 8)
    count = len(asked.examples)
    start = [1] * (count // 2) + [0] * (count - count // 2)
    better = [1] * count
    summary = summarise({NOTHING: [start, start], "arm": [start, better]}, better, asked)
    assert summary["arms"]["arm"]["overall"] == [75.0, pytest.approx(35.36, abs=0.01)]
    assert summary["arms"]["arm"]["gap_closed"][0] == 50.0
    assert summary["arms"][NOTHING]["worst_family"] == [0.0, 0.0]
    assert set(summary["arms"]["arm"]["families"]) == set(FAMILIES)
    console = Console(record=True, width=160)
    show(summary, console)
    assert "75.0 ± 35.4" in console.export_text()
    rows = markdown(summary).splitlines()
    assert len({row.count("|") for row in rows}) == 1
    assert "| arm | 75.0 ± 35.4 |" in rows[3]


def test_the_meter_measures_what_scoring_does() -> None:
    pictures = draw_pile(4, 5)
    asked = [(picture.pixels, picture.questions[0].text) for picture in pictures]
    said = Answerer(STUDENT).answer([image for image, _ in asked], [text for _, text in asked])
    answers = [[one, "dog"] for one in said]
    found = Meter(STUDENT).forced(asked, answers, top=3)
    loaded = load_model(STUDENT)
    prompts = [question_prompt(loaded, Image.fromarray(image), text) for image, text in asked]
    for ours, theirs, one in zip(found, score_answers(loaded, prompts, answers), said, strict=True):
        assert [forced.logprob for forced in ours] == pytest.approx([scored.mean for scored in theirs], abs=1e-4)
        # the answer was greedy, so its tokens are the likeliest alternatives, up to the end token
        assert "".join(place[0].token for place in ours[0].top[:-1]).strip() == one
        assert all(place[0].logprob >= place[1].logprob >= place[2].logprob for place in ours[0].top)


def test_attention_maps_are_distributions() -> None:
    (picture,) = draw_pile(1, 5)
    (grid,) = Meter(STUDENT).attention([(picture.pixels, picture.questions[0].text)], ["7"], 8)
    assert len(grid) == 64
    assert sum(grid) == pytest.approx(1, abs=1e-4)
    assert min(grid) >= 0


@pytest.mark.slow
def test_an_arm_is_mined_trained_and_tested_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(tmp_path, TEACHER, STUDENT, 24, 2, 2, WorldSplit.DEV, 8)
    prepared = prepare(settings, 0)
    assert prepared["disparity"]["parity"] > 3
    rows = read_set(settings.store(0), str(Pairs.PARITY), verdicts=[Verdict.DISPARITY]).to_pylist()
    for name in ("teacher_top", "rationale", "confidence_gap", "reasoning_gap", "attention_gap", "gap_logprob"):
        assert all(row[name] is not None for row in rows), name
    assert Counter(row["task"] for row in rows).keys() <= set(FAMILIES)
    train = {"batch_size": 4, "loss": {"consistency": 1.0, "rationale": 0.5, "attention": 1.0}}
    arm = Arm("all terms", Pairs.PARITY, train)
    result = run_arm(settings, arm, 0)
    assert len(result["right"]) == 16
    assert result["rounds"][0]["steps"] == 2

    twice = run_arm(settings, Arm("twice", Pairs.PARITY, {"batch_size": 4}, rounds=2), 0)
    first, second = twice["rounds"]
    assert first["steps"] == second["steps"] == 1
    again = read_set(settings.store(0), "twice-dev-2", rounds=[2]).to_pylist()
    assert {row["student_version"] for row in again} == {"round-1"}
    assert second["disparity_pairs"] == sum(row["verdict"] == Verdict.DISPARITY for row in again)
    assert second["replay_pairs"] >= first["disparity_pairs"]

    monkeypatch.setattr("demo.ablation.running.answered_right", None)
    assert run_arm(settings, arm, 0) == json.loads(json.dumps(result))
    with pytest.raises(TypeError, match="not callable"):  # it is tested, which the other was not
        run_arm(settings, replace(arm, train=train | {"learning_rate": 1e-4}), 0)


def test_testing_by_teacher_forcing_is_exact_match_of_greedy_answers() -> None:
    asked = questions(WorldSplit.DEV, 16)
    images = [asked.pictures[one.index].pixels for one in asked.examples]
    answers = Answerer(STUDENT).answer(images, [one.question.text for one in asked.examples])
    greedy = [answer == one.question.answer for answer, one in zip(answers, asked.examples, strict=True)]
    assert answered_right(STUDENT, asked) == greedy
    assert 0 < sum(greedy) < len(greedy)
