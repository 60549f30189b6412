"""What a task forgives besides the spelling: small differences of measured values, and the order of a list."""

from __future__ import annotations

import pytest

from shared.vqa.agreement import AS_WRITTEN, OFF_A_CHART, AgreementRule, agree, usual_rule


def test_charts_are_what_the_relaxed_metric_is_for() -> None:
    assert usual_rule("relaxed") == OFF_A_CHART
    assert {usual_rule(metric) for metric in ("vqa", "anls", "exact")} == {AS_WRITTEN}


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("104", "100", True),
        ("95", "100", True),
        ("106", "100", False),
        ("1.25", "1.3", True),
        ("$1,000", "1030", True),
        ("3,000", "3100", True),
        ("45%", "46%", True),
        ("45%", "45", True),
        ("45%", "$45", False),
        ("10 to 20", "10.4 to 20", True),
        ("1990", "2015", False),
        ("1990", "1985", False),
        ("2014", "2014.5", False),
        ("7", "8", False),
        ("0", "0.01", False),
        ("100", "-100", False),
        ("0100", "0104", False),
        ("A100", "A104", False),
        ("Group 100", "Group 104", False),
        ("May 2015", "June 2015", False),
        ("France", "Spain", False),
    ],
)
def test_only_values_on_a_chart_may_differ_a_little(a: str, b: str, same: bool) -> None:
    assert agree(a, b, OFF_A_CHART) is agree(b, a, OFF_A_CHART) is same
    assert not agree(a, b)


@pytest.mark.parametrize(
    ("a", "b", "question", "same"),
    [
        ("20", "21", "What is the value of the red bar?", True),
        ("20", "21", "How many bars are there?", False),
        ("20", "21", "What is the number of bars?", False),
        ("1,200", "1,230", "How many cases were there in May?", True),
        ("1800", "1790", "How many people came?", True),
        ("1800", "1790", "What is the value of the red bar?", False),
        ("1492", "1450", "In which year was it?", False),
        ("1800", "1790", "How many years did it take?", False),
    ],
)
def test_the_question_says_what_is_counted_and_what_is_measured(a: str, b: str, question: str, same: bool) -> None:
    assert agree(a, b, OFF_A_CHART, question) is agree(b, a, OFF_A_CHART, question) is same


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("red, blue", "blue and red", True),
        ("red, blue and green", "green; red; blue", True),
        ("3, 4", "4, 3", True),
        ("red, blue", "red, green", False),
        ("red, red", "red, blue", False),
        ("red, blue", "red", False),
        ("red blue", "blue red", False),
    ],
)
def test_the_order_of_a_list_matters_unless_the_task_says_otherwise(a: str, b: str, same: bool) -> None:
    assert agree(a, b, AgreementRule(any_order=True)) is same
    assert not agree(a, b)
