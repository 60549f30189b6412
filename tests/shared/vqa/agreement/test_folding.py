"""One form for every way to write the same characters."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.vqa.agreement.folding import caseless, fold


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("cafe\u0301", "café"),
        ("  two\u00a0\u2009dogs\n", "two dogs"),
        ("don\u2019t \u201cgo\u201d \u2013 \u2014", 'don\'t "go" - -'),
        ("\uff11\u0663\u096b\U0001d7d6", "1358"),
        ("\u0663\u066b\u0665\u066a", "3.5%"),
        ("5\u00bd", "5 1/2"),
        ("5\u00b2 and \u00b9", "5^2 and 1"),
        ("10\u207b\u00b2\u00b3", "10^-23"),
        ("Coca\u2122\u00ae", "Coca"),
        ("a\u200bb\u00adc\ufe0f", "abc"),
        ("\u2103", "°C"),
        ("3\u00d74", "3x4"),
        ("\u300c\u8d64\u300d\u3002", "(\u8d64)."),
    ],
)
def test_spellings_fold_into_one(text: str, folded: str) -> None:
    assert fold(text) == folded


@pytest.mark.parametrize(
    ("one", "other"), [("Straße", "STRASSE"), ("Αθήνα", "ΑΘΗΝΑ"), ("İzmir", "izmir"), ("ΣΟΦΟΣ", "σοφος"), ("É", "é")]
)
def test_case_makes_no_difference(one: str, other: str) -> None:
    assert caseless(fold(one)) == caseless(fold(other))


@given(st.text(max_size=20))
def test_folding_ignores_the_canonical_form_and_changes_nothing_twice(text: str) -> None:
    assert fold(unicodedata.normalize("NFD", text)) == fold(text)
    assert caseless(fold(caseless(fold(text)))) == caseless(fold(text))
