"""Which counts of a job make it warn, and what it says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shared.contracts import Cause, Verdict
from shared.job_warnings import CAUSES, PairCounts, mostly_unusable, warnings_of

V = Verdict


def counts(verdicts: dict[Verdict, int], **changes: Any) -> PairCounts:
    base = PairCounts(job_id="j1", verdicts=verdicts, collected=True, to_train=40, batch_size=32, held_out=100)
    return replace(base, **changes)


@pytest.mark.parametrize(
    ("verdicts", "codes"),
    [
        ({V.REFUSED: 81, V.DISPARITY: 9, V.STUDENT_RIGHT: 10}, ["mostly_refused"]),
        ({V.UNPARSABLE: 60, V.DISPARITY: 40}, ["mostly_unparsable"]),
        ({V.DUPLICATE: 50, V.DISPARITY: 50}, ["mostly_duplicate"]),
        ({V.TEACHER_INCONSISTENT: 70, V.DISPARITY: 30}, ["mostly_inconsistent"]),
        ({V.UNREADABLE_IMAGE: 55, V.DISPARITY: 45}, ["mostly_unreadable"]),
        ({V.DUPLICATE: 30, V.REFUSED: 40, V.DISPARITY: 30}, ["mostly_refused", "mostly_duplicate"]),
        ({V.DUPLICATE: 15, V.REFUSED: 45, V.DISPARITY: 40}, ["mostly_refused"]),
        (
            {V.DUPLICATE: 11, V.REFUSED: 12, V.UNPARSABLE: 15, V.UNREADABLE_IMAGE: 12, V.DISPARITY: 50},
            ["mostly_unparsable"],
        ),
        ({V.REFUSED: 49, V.DISPARITY: 51}, []),
        ({V.STUDENT_RIGHT: 95, V.DISPARITY: 5}, []),
        ({V.REFUSED: 1}, ["mostly_refused"]),
        ({}, []),
    ],
)
def test_half_of_the_pairs_lost_is_a_warning_for_each_reason_that_dominates(
    verdicts: dict[Verdict, int], codes: list[str]
) -> None:
    assert [warning.code for warning in warnings_of(counts(verdicts))] == codes
    assert mostly_unusable(counts(verdicts)) is bool(codes)


def test_a_warning_has_the_counts_the_cause_and_what_to_change() -> None:
    (warning,) = warnings_of(counts({V.REFUSED: 8100, V.DISPARITY: 1900}))
    assert warning.text == "8,100 of 10,000 pairs were refused by the teacher."
    assert "too weak" in warning.cause
    assert "Use a larger teacher" in warning.advice and "`mpa pairs j1 --verdict refused`" in warning.advice


def test_a_job_that_is_still_collecting_warns_once_it_has_enough_pairs() -> None:
    assert warnings_of(counts({V.REFUSED: 49}, collected=False)) == []
    assert [w.code for w in warnings_of(counts({V.REFUSED: 50}, collected=False, to_train=1))] == ["mostly_refused"]


@pytest.mark.parametrize(
    ("verdicts", "causes", "code", "text", "setting"),
    [
        (
            {V.UNPARSABLE: 60, V.DISPARITY: 40},
            {Cause.ANSWER_CUT_OFF: 55, Cause.NO_QUESTION: 5},
            "mostly_unparsable",
            "In 55 pairs the teacher's answer was cut off by its token limit.",
            "max_answer_tokens",
        ),
        (
            {V.UNPARSABLE: 90, V.DISPARITY: 10},
            {Cause.TEACHER_THINKING: 90},
            "mostly_unparsable",
            "In 90 pairs the teacher was still thinking",
            "MPA_TEACHER_REASONING_TOKENS",
        ),
        (
            {V.UNPARSABLE: 10, V.DISPARITY: 90},
            {Cause.QUESTION_CUT_OFF: 10},
            "token_limit",
            "In 10 pairs the teacher's question was cut off",
            "max_question_tokens",
        ),
        (
            {V.UNPARSABLE: 30, V.STUDENT_RIGHT: 70},
            {Cause.STUDENT_THINKING: 30, "of a later release": 50},
            "token_limit",
            "In 30 pairs the student was still thinking",
            "MPA_STUDENT_REASONING_TOKENS",
        ),
        (
            {V.UNPARSABLE: 30, V.DISPARITY: 70},
            {Cause.ANSWER_CUT_OFF: 12, Cause.TEACHER_THINKING: 18},
            "token_limit",
            "In 18 pairs the teacher was still thinking when its tokens were used up; in 12 pairs the teacher's answer",
            "max_answer_tokens",
        ),
    ],
)
def test_a_token_limit_that_costs_many_pairs_names_its_setting(
    verdicts: dict[Verdict, int], causes: dict[str, int], code: str, text: str, setting: str
) -> None:
    (warning,) = warnings_of(counts(verdicts, causes=causes))
    assert warning.code == code and text in warning.cause and setting in warning.advice
    assert "`mpa pairs j1 --verdict unparsable`" in warning.advice


@pytest.mark.parametrize(
    "causes", [{Cause.ANSWER_CUT_OFF: 9}, {Cause.STUDENT_CUT_OFF: 90}, {Cause.NO_QUESTION: 40}, {}]
)
def test_other_causes_and_a_few_cut_offs_are_not_worth_a_warning(causes: dict[str, int]) -> None:
    assert warnings_of(counts({V.UNPARSABLE: 40, V.DISPARITY: 60}, causes=causes)) == []


def test_every_cause_has_words() -> None:
    assert CAUSES.keys() == set(Cause)


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        ({"to_train": 31}, ["few_disparities"]),
        ({"to_train": 32}, []),
        ({"to_train": 0}, []),
        ({"to_train": 31, "batch_size": 8}, []),
        ({"held_out": 29}, ["few_held_out"]),
        ({"held_out": 30}, []),
        ({"held_out": None}, []),
        ({"to_train": 3, "held_out": 2}, ["few_disparities", "few_held_out"]),
        ({"to_train": 3, "collected": False}, []),
    ],
)
def test_too_few_pairs_to_train_on_or_to_measure_on(change: dict[str, Any], codes: list[str]) -> None:
    found = warnings_of(counts({V.DISPARITY: 60, V.STUDENT_RIGHT: 40}, **change))
    assert [warning.code for warning in found] == codes
