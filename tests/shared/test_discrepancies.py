"""The measures of disagreement: ranges, ends, and histograms that add up."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.discrepancies import Histogram, attention_gap, confidence_gap, histogram, merged, reasoning_gap

LOGPROBS = st.floats(-50, 0)
MAPS = st.integers(1, 16).flatmap(
    lambda n: st.tuples(*[st.lists(st.floats(0.0, 1.0), min_size=n, max_size=n).filter(lambda v: sum(v) > 0)] * 2)
)


@given(LOGPROBS, LOGPROBS)
def test_gaps_of_words_are_in_range_and_vanish_where_the_student_is_as_sure(teacher: float, student: float) -> None:
    for gap in (confidence_gap, reasoning_gap):
        assert 0 <= gap(teacher, student) <= 1
        assert gap(teacher, teacher) == 0
        if student >= teacher:
            assert gap(teacher, student) == 0


def test_gaps_of_words_by_hand() -> None:
    assert confidence_gap(math.log(0.9), math.log(0.2)) == pytest.approx(0.7)
    assert reasoning_gap(math.log(0.4), math.log(0.1)) == pytest.approx(0.75)


@given(MAPS)
@example(([1.0, 0.0], [1.0, 5e-324]))
def test_attention_gap_is_symmetric_in_range_and_zero_for_equal_maps(maps: tuple[list[float], list[float]]) -> None:
    one, other = maps
    assert 0 <= attention_gap(one, other) <= 1
    assert attention_gap(one, other) == pytest.approx(attention_gap(other, one), abs=1e-9)
    assert attention_gap(one, one) == pytest.approx(0, abs=1e-9)


def test_attention_gap_of_disjoint_maps_is_one_whatever_their_scale() -> None:
    assert attention_gap([3, 0, 0], [0, 0.5, 0.5]) == pytest.approx(1)
    with pytest.raises(ValueError, match="3 and 2 cells"):
        attention_gap([1, 1, 1], [1, 1])
    with pytest.raises(ValueError, match="weights are all zero"):
        attention_gap([0, 0], [1, 1])


@given(st.lists(st.floats(0, 1) | st.none(), max_size=40), st.integers(0, 40))
def test_histograms_of_parts_add_up_to_the_whole(values: list[float | None], cut: int) -> None:
    whole = histogram(values)
    parts = histogram(values[:cut]) + histogram(values[cut:])
    assert parts.bins == whole.bins
    assert parts.total == pytest.approx(whole.total, abs=1e-5)
    known = [value for value in values if value is not None]
    assert whole.count == len(known)
    assert whole.mean == (pytest.approx(sum(known) / len(known), abs=1e-5) if known else None)


def test_merging_leaves_out_what_nobody_measured() -> None:
    one = {"reasoning": histogram([0.05, 1.0]), "attention": Histogram()}
    found = merged([one, {"confidence": histogram([0.31])}, {}])
    assert list(found) == ["confidence", "reasoning"]
    assert found["reasoning"].bins == (1, 0, 0, 0, 0, 0, 0, 0, 0, 1)
