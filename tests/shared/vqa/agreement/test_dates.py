"""Dates and times in their notations, and what is neither."""

from __future__ import annotations

import pytest

from shared.vqa.agreement.dates import read_date, read_time
from shared.vqa.agreement.items import Date, Item, Time, UnclearDate

MAY = Date(2020, 5, 6)


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("2020-05-06", MAY),
        ("2020/5/6", MAY),
        ("May 6, 2020", MAY),
        ("may 6th 2020", MAY),
        ("6 May 2020", MAY),
        ("06-May-2020", MAY),
        ("the 6th of May, 2020", MAY),
        ("2020年5月6日", MAY),
        ("May 2020", Date(2020, 5)),
        ("Sept. 6", Date(0, 9, 6)),
        ("Jan", Date(0, 1)),
        ("25/12/2020", Date(2020, 12, 25)),
        ("12/25/2020", Date(2020, 12, 25)),
        ("5/5/2020", Date(2020, 5, 5)),
        ("25.12.2020", Date(2020, 12, 25)),
        ("5/6/2020", UnclearDate((5, 6, 2020))),
        ("5/6/20", UnclearDate((5, 6, 20))),
    ],
)
def test_dates(text: str, date: Item) -> None:
    assert read_date(text, 0) == (len(text), frozenset({date}))


@pytest.mark.parametrize(
    "text", ["2020", "13/13/2020", "2020-13-01", "1.2.20", "10-20", "3/4", "Mayor", "Marching", "5/6/2020/7", "32 May"]
)
def test_other_texts_are_not_dates(text: str) -> None:
    assert read_date(text, 0) is None


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("5:30 pm", Time(17, 30)),
        ("5.30 p.m.", Time(17, 30)),
        ("17:30", Time(17, 30)),
        ("17h30", Time(17, 30)),
        ("5PM", Time(17)),
        ("12 am", Time(0)),
        ("12:15 pm", Time(12, 15)),
        ("5 o'clock", Time(5)),
        ("09:05:07", Time(9, 5, 7)),
    ],
)
def test_times(text: str, time: Item) -> None:
    assert read_time(text, 0) == (len(text), frozenset({time}))


@pytest.mark.parametrize("text", ["5", "5.30", "3:2", "25:00", "13 pm", "5:75", "5 a", "16:9", "5 amps"])
def test_other_texts_are_not_times(text: str) -> None:
    assert read_time(text, 0) is None
