"""Units and currencies by symbol and name."""

from __future__ import annotations

import pytest

from shared.vqa.agreement.units import currency_before, unit_after, units_named


@pytest.mark.parametrize(
    ("text", "units"),
    [
        (" km", {"kilometer"}),
        (" kilometres", {"kilometer"}),
        ("KM", {"kilometer"}),
        ("%", {"percent"}),
        (" per cent", {"percent"}),
        (" lbs", {"pound"}),
        (" pounds", {"pound", "GBP"}),
        ("MW", {"megawatt"}),
        ("mW", {"milliwatt"}),
        (" km/h", {"kilometer per hour"}),
        (" sq ft", {"square foot"}),
        (" dollars", {"USD"}),
        ("°C", {"celsius"}),
        (" degrees", {"degree"}),
        (" in", {"inch"}),
    ],
)
def test_units_behind_a_number(text: str, units: set[str]) -> None:
    assert unit_after(text, 0) == (len(text), frozenset(units))


@pytest.mark.parametrize("text", ["mw", " kmx", " dogs", " in a row", "", " percentage of"])
def test_other_words_are_not_units(text: str) -> None:
    assert unit_after(text, 0) is None


@pytest.mark.parametrize(
    ("text", "currencies"), [("$5", {"USD"}), ("US$ 5", {"USD"}), ("eur 5", {"EUR"}), ("¥5", {"JPY", "CNY"})]
)
def test_currencies_before_a_number(text: str, currencies: set[str]) -> None:
    assert currency_before(text, 0) == (len(text) - 1, frozenset(currencies))
    assert currency_before("$x", 0) is None


@pytest.mark.parametrize(
    ("question", "units"),
    [
        ("What percentage of it is red?", {"percent"}),
        ("How many km per hour is the limit?", {"kilometer", "hour", "kilometer per hour"}),
        ("How many dollars in all?", {"USD"}),
        ("How old is he?", {"year"}),
        ("What is in the picture?", set()),
        ("How many dogs does Anna have?", set()),
    ],
)
def test_units_that_a_question_names(question: str, units: set[str]) -> None:
    assert units_named(question) == frozenset(units)
