"""What a clock that was read from afar says about its distance from ours."""

from __future__ import annotations

import httpx
import pytest

from services.cli.doctor.clocks import Reading, nearest, read_date, skew
from shared.contracts import FindingState

AT = 1_800_000_000.0
OK, BROKEN = FindingState.OK, FindingState.BROKEN


@pytest.mark.parametrize(("ahead", "state"), [(0.0, OK), (-3.0, OK), (40.0, BROKEN), (-40.0, BROKEN)])
def test_how_far_a_clock_may_be_off(ahead: float, state: FindingState) -> None:
    assert skew("redis' clock", ahead).state is state


@pytest.mark.parametrize(
    ("told", "unit", "sent", "received", "ahead"),
    [
        pytest.param(0.0, 1.0, 0.2, 0.3, 0.0, id="the same, cut to the second"),
        pytest.param(0.0, 1.0, 0.9, 1.1, 0.0, id="the answer arrives in the next second"),
        pytest.param(0.0, 1.0, 0.5, 9.0, 0.0, id="the answer takes seconds"),
        pytest.param(8.0, 1.0, 0.5, 9.0, 0.0, id="the question takes seconds"),
        pytest.param(3600.0, 1.0, 0.5, 0.5, 3599.5, id="an hour ahead"),
        pytest.param(-3600.0, 1.0, 0.5, 0.5, -3599.5, id="an hour behind"),
        pytest.param(-3600.0, 1.0, 0.5, 20.5, -3599.5, id="an hour behind, and slow"),
        pytest.param(3600.0, 1.0, 0.5, 20.5, 3579.5, id="an hour ahead, and slow"),
        pytest.param(0.25, 0.0, 0.0, 0.5, 0.0, id="to the microsecond"),
        pytest.param(0.75, 0.0, 0.0, 0.5, 0.25, id="to the microsecond, ahead"),
    ],
)
def test_the_time_of_the_call_is_no_difference(
    told: float, unit: float, sent: float, received: float, ahead: float
) -> None:
    assert Reading(AT + told, unit, AT + sent, AT + received).ahead == pytest.approx(ahead)


def test_a_time_that_was_written_long_ago_says_nothing_beside_a_fresh_one() -> None:
    stale, fresh = Reading(AT, 1.0, AT + 30.0, AT + 30.1), Reading(AT + 30.0, 1.0, AT + 30.2, AT + 30.3)
    assert nearest([stale]) == pytest.approx(-29.0)
    assert nearest([stale, fresh]) == 0.0
    assert nearest([]) is None


@pytest.mark.parametrize("date", [None, "", "yesterday"])
def test_an_answer_without_a_date_gives_no_reading(date: str | None) -> None:
    assert read_date(httpx.Response(200, headers={} if date is None else {"Date": date}), AT, AT) is None


def test_a_date_is_read_to_the_second() -> None:
    response = httpx.Response(200, headers={"Date": "Fri, 15 Jan 2027 08:00:00 GMT"})
    assert read_date(response, AT, AT + 0.1) == Reading(AT, 1.0, AT, AT + 0.1)
