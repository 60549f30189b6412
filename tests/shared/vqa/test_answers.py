"""When answers match, by task and as the paper's code has it, and when questions are the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidInput
from shared.vqa.answers import match, normalise, normalise_question
from shared.vqa.metrics import METRIC_NAMES

metric_names = st.sampled_from(METRIC_NAMES)


@pytest.mark.parametrize(
    ("prediction", "answer", "metric", "matches"),
    [
        ("Two dogs.", "2 dogs", "vqa", True),
        ("the dog", "dog", "vqa", True),
        ("dog", "dogs", "vqa", False),
        ("A", "the", "vqa", False),
        ("A", "a", "vqa", True),
        ("STOP", "stop.", "exact", True),
        ("two", "2", "exact", False),
        ("A", "the A", "exact", False),
        ("coca cala", "coca cola", "anls", True),
        ("pepsi", "coca cola", "anls", False),
        ("104", "100", "relaxed", True),
        ("106", "100", "relaxed", False),
        (" 0.0 ", "0.0", "relaxed", True),
        ("Red", "red ", "relaxed", True),
        ("nan", "NaN", "relaxed", True),
        ("", "", "exact", False),
        ("red", "", "exact", False),
        ("", "red", "relaxed", False),
    ],
)
def test_task_mode(prediction: str, answer: str, metric: str, matches: bool) -> None:
    assert match(prediction, answer, mode="task", metric=metric) is matches


@pytest.mark.parametrize(
    ("prediction", "answer", "matches"),
    [
        ("It is a Coca-Cola can", "coca cola", True),
        ("coca cola", "It is a Coca-Cola can", False),
        ("14", "4", True),
        ("red", "blue", False),
        ("anything", "", False),
        ("anything", "?!", False),
        ("", "red", False),
        ("Ça va!", "ça", True),
    ],
)
def test_paper_mode_looks_for_the_answer_within_the_prediction(prediction: str, answer: str, matches: bool) -> None:
    for metric in METRIC_NAMES:
        assert match(prediction, answer, mode="paper", metric=metric) is matches


@given(st.text(min_size=1, max_size=20), metric_names)
def test_an_answer_matches_itself_unless_it_is_blank(text: str, metric: str) -> None:
    assert match(text, text, mode="task", metric=metric) is bool(normalise(text, metric))


@given(st.text(max_size=20), st.text(max_size=20), metric_names)
def test_equal_normal_forms_match(a: str, b: str, metric: str) -> None:
    if normalise(a, metric) and normalise(a, metric) == normalise(b, metric):
        assert match(a, b, mode="task", metric=metric)


@given(st.text(alphabet=st.characters(categories=["Ll", "Lu", "Nd"]), min_size=1), st.text(), st.text())
def test_paper_mode_forgives_whatever_stands_around(answer: str, before: str, after: str) -> None:
    assert match(f"{before} {answer} {after}", answer, mode="paper", metric="exact")


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(InvalidInput, match="bleu"):
        normalise("x", "bleu")


@pytest.mark.parametrize(
    ("question", "key"),
    [
        ("What is  this?", "what is this"),
        ("what is this", "what is this"),
        ("WHAT_IS - this ?!", "what is this"),
        ("How much is 3.5?", "how much is 3 5"),
        ("???", "???"),
        ("Was heißt „Straße“?", "was heißt straße"),
    ],
)
def test_questions_are_told_apart_by_their_words(question: str, key: str) -> None:
    assert normalise_question(question) == key


@given(st.text())
def test_a_questions_key_is_its_own_key(question: str) -> None:
    key = normalise_question(question)
    assert normalise_question(key) == key or not any(char.isalnum() for char in key)
