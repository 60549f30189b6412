"""When answers match, by task and as the paper's code has it, and when questions are the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.vqa.agreement import AgreementRule, usual_rule
from shared.vqa.answers import match, normalise_question
from shared.vqa.metrics import METRIC_NAMES

rules = st.sampled_from([usual_rule(name) for name in METRIC_NAMES])


@pytest.mark.parametrize("metric", METRIC_NAMES)
@pytest.mark.parametrize(
    ("prediction", "answer", "matches"),
    [
        ("café", "cafe\u0301", True),
        ("don\u2019t", "don't", True),
        ("Two dogs.", "2 dogs", True),
        ("the dog", "dog", True),
        ("dog", "dogs", False),
        ("STOP", "stop.", True),
        ("two", "2", True),
        ("1990", "2015", False),
        ("A12", "A13", False),
        ("coca cala", "coca cola", False),
        ("A", "the", False),
        ("A", "a", True),
        ("nan", "NaN", True),
        ("", "", False),
        ("red", "", False),
        (" ", "red", False),
    ],
)
def test_task_mode_asks_for_agreement_whatever_the_metric(
    prediction: str, answer: str, metric: str, matches: bool
) -> None:
    assert match(prediction, answer, mode="task", rule=usual_rule(metric)) is matches


@pytest.mark.parametrize(("prediction", "matches"), [("104", True), ("106", False), ("100%", True)])
def test_task_mode_forgives_what_the_tasks_rule_does(prediction: str, matches: bool) -> None:
    assert match(prediction, "100", mode="task", rule=usual_rule("relaxed")) is matches
    assert not match(prediction, "100", mode="task", rule=usual_rule("exact"))


def test_task_mode_knows_the_question() -> None:
    assert match("3 dogs", "3", mode="task", question="How many dogs are there?")
    assert not match("3 dogs", "3", mode="task", question="What is this?")


@pytest.mark.parametrize(
    ("prediction", "answer", "matches"),
    [
        ("It is a Coca-Cola can", "coca cola", True),
        ("coca cola", "It is a Coca-Cola can", False),
        ("14", "4", True),
        ("red", "blue", False),
        ("three", "3", False),
        ("anything", "", False),
        ("anything", "?!", False),
        ("", "red", False),
        ("Ça va!", "ça", True),
    ],
)
def test_paper_mode_looks_for_the_answer_within_the_prediction(prediction: str, answer: str, matches: bool) -> None:
    for metric in METRIC_NAMES:
        assert match(prediction, answer, mode="paper", rule=usual_rule(metric)) is matches


@given(st.text(min_size=1, max_size=20), rules)
def test_an_answer_matches_itself_unless_it_is_blank(text: str, rule: AgreementRule) -> None:
    assert match(text, text, mode="task", rule=rule) is bool(text.strip())


@given(st.text(alphabet=st.characters(categories=["Ll", "Lu", "Nd"]), min_size=1), st.text(), st.text())
def test_paper_mode_forgives_whatever_stands_around(answer: str, before: str, after: str) -> None:
    assert match(f"{before} {answer} {after}", answer, mode="paper")


@pytest.mark.parametrize(
    ("question", "key"),
    [
        ("What is  this?", "what is this"),
        ("what is this", "what is this"),
        ("WHAT_IS - this ?!", "what is this"),
        ("How much is 3.5?", "how much is 3 5"),
        ("What’s in the cafe\u0301?", "what s in the café"),
        ("What's in the café", "what s in the café"),
        ("３つですか？", "3つですか"),
        ("???", "???"),
        ("Was heißt „STRASSE“?", "was heisst strasse"),
        ("Was heißt „Straße“?", "was heisst strasse"),
    ],
)
def test_questions_are_told_apart_by_their_words(question: str, key: str) -> None:
    assert normalise_question(question) == key


def test_vowel_signs_tell_questions_apart() -> None:
    assert normalise_question("यह कि है?") != normalise_question("यह का है?")


@given(st.text())
def test_a_questions_key_is_its_own_key(question: str) -> None:
    key = normalise_question(question)
    assert normalise_question(key) == key or not any(char.isalnum() for char in key)
