from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from demo.label_noise import WEIGHTS, Label, keep, labels_of, stopped_by_one, sweep, table, weakened
from demo.simulation.pairs import draw_pile
from demo.world.vocabulary import REFUSAL

TEACHER = Path("demo/models/teacher")
SHARES = st.floats(0, 1)
LABELS = st.lists(st.builds(Label, SHARES, SHARES, SHARES, st.booleans()), max_size=30)


def row(index: int, question: str, teacher: str, student: str, logprob: float | None = -0.1) -> dict[str, object]:
    return {
        "image_index": index,
        "question": question,
        "teacher_answer": teacher,
        "student_answer": student,
        "vote_share": 1.0,
        "teacher_logprob": logprob,
        "teacher_rationale_logprob": None,
    }


def test_labels_are_judged_by_the_world() -> None:
    pictures = draw_pile(2, 5)
    question = pictures[1].questions[0]
    found = labels_of(
        [
            row(1, question.text, question.answer, "something else"),
            row(1, question.text, question.answer, question.answer),
            row(1, question.text, "something else", question.answer, logprob=None),
            row(0, "what does nobody ask?", "something", "something else"),
            row(0, "what does nobody ask?", REFUSAL, "something else"),
        ],
        pictures,
    )
    assert [one.agreed for one in found] == [False, True, False, False, False]
    assert [one.right for one in found] == [True, True, False, False, True]
    assert [one.applies for one in found] == [True, True, True, False, False]
    assert found[0].confidence == pytest.approx(math.exp(-0.1))
    assert found[2].confidence == 0.0


def test_what_only_one_of_two_rules_stops_is_told_apart() -> None:
    sure, unsure, disputed = Label(1, 0.9, 0, False), Label(1, 0.5, 0, False), Label(0, 0.9, 0, False)
    assert stopped_by_one([sure, unsure, unsure, disputed, Label(0, 0.1, 0, False), Label(1, 0.1, 0, True)], 0.8) == (
        2,
        1,
    )


def test_precision_is_of_the_kept_and_recall_of_the_right() -> None:
    labels = [
        Label(1, 0.9, 0, True),
        Label(1, 0.5, 0, False),
        Label(1 / 3, 0.9, 0, True),
        Label(1, 0.9, 0, False, applies=False),
    ]
    found = keep(labels, 1.0, 0.8, 0.0)
    assert (found.kept, found.wrong, found.senseless, found.precision, found.recall) == (2, 1, 1, 0.5, 0.5)
    assert "| 3 of 3 | 0.8 | – | 2 | 1 | 1 | 50.0% | 50.0% |" in table([found])


@given(LABELS)
def test_a_stricter_rule_keeps_no_more(labels: list[Label]) -> None:
    found = {(one.vote_share, one.confidence, one.reason): one for one in sweep(labels)}
    everything = found[0.0, 0.0, 0.0]
    assert everything.kept == len(labels)
    for (share, confidence, reason), one in found.items():
        for other in found.values():
            if other.vote_share <= share and other.confidence <= confidence and other.reason <= reason:
                assert other.kept >= one.kept and other.recall >= one.recall and other.wrong >= one.wrong


def test_a_weakened_teacher_differs_in_its_matrices_alone_and_always_the_same(tmp_path: Path) -> None:
    once, again = (load_file(weakened(TEACHER, tmp_path / name, 0.1, 3) / WEIGHTS) for name in ("a", "b"))
    was = load_file(TEACHER / WEIGHTS)
    assert all(torch.equal(once[name], again[name]) and once[name].dtype == was[name].dtype for name in was)
    assert {name for name in was if not torch.equal(once[name], was[name])} == {
        name for name, one in was.items() if one.ndim > 1
    }
    assert (tmp_path / "a" / "config.json").exists()
