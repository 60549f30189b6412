"""The EvalAI processor: worked cases, and the quirks of the public code."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.vqa.evalai import ARTICLES, CONTRACTIONS, NUMBERS, PUNCTUATION, normalise_evalai


@pytest.mark.parametrize(
    ("text", "processed"),
    [
        ("Yes", "yes"),
        ("  The  Red\tbus\n", "red bus"),
        ("a dog and an owl", "dog and owl"),
        ("None", "0"),
        ("Ten", "10"),
        ("twenty one", "twenty 1"),
        ("eleven", "eleven"),
        ("dont", "don't"),
        ("don't", "don't"),
        ("yall'd've", "y'all'd've"),
        ("somebody'd", "somebodyd"),
        ("Stop!", "stop"),
        ("coca-cola", "coca cola"),
        ("coca - cola", "coca cola"),
        ("coca- cola", "coca cola"),
        ("1,000", "1000"),
        ("red, white", "red white"),
        ("what?", "what"),
        ("3.5", "3.5"),
        (".5", ".5"),
        ("3.", "3"),
        ("u.s.a.", "usa"),
        ("10:30", "10:30"),
        ("$5", "$5"),
        ("50%", "50%"),
        ("#1", "#1"),
        ('"hi"', "hi"),
        ("(a)", ""),
        ("", ""),
        ("the", ""),
        ("éclair", "éclair"),
    ],
)
def test_worked_cases(text: str, processed: str) -> None:
    assert normalise_evalai(text) == processed


def test_a_possessive_is_split_off() -> None:
    assert normalise_evalai("Levi's") == "levi 's"
    assert normalise_evalai("let's") == "let 's", "so the table's entry for it never applies"


def test_contractions_with_a_capital_never_apply_because_the_text_is_lower_case() -> None:
    assert CONTRACTIONS["Im"] == "I'm"
    assert normalise_evalai("Im") == "im"


def test_only_the_first_32_periods_are_dropped() -> None:
    assert normalise_evalai("x" + "." * 32) == "x"
    assert normalise_evalai("x" + "." * 34) == "x.."


def test_a_period_before_a_digit_stays_wherever_it_stands() -> None:
    assert normalise_evalai("no.5") == "no.5"
    assert normalise_evalai("5.no") == "5no"


def test_one_mark_beside_a_space_joins_all_words_that_the_mark_holds_apart() -> None:
    assert normalise_evalai("a-b") == "b", "the mark becomes a space, and 'a' an article"
    assert normalise_evalai("x-y -z") == "xy z"


def test_the_tables_have_the_size_of_the_public_ones() -> None:
    assert len(CONTRACTIONS) == 120 and len(NUMBERS) == 12 and len(PUNCTUATION) == 21


@given(st.text())
def test_any_text_becomes_lower_case_words_without_articles(text: str) -> None:
    processed = normalise_evalai(text)
    assert processed == " ".join(processed.split())
    assert not ARTICLES & set(processed.split())
    assert not set(PUNCTUATION) & set(processed)


@given(st.text())
def test_case_and_outer_space_make_no_difference(text: str) -> None:
    assert normalise_evalai(f"  {text.lower()} \n") == normalise_evalai(text)


@given(st.text(alphabet="abcdefg0123 ", min_size=1))
def test_plain_words_are_processed_once_and_for_all(text: str) -> None:
    processed = normalise_evalai(text)
    assert normalise_evalai(processed) == processed
