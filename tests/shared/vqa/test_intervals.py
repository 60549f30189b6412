"""The exact interval of a gain, against what is known beforehand."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shared.vqa.intervals import gain_interval

counts = st.integers(0, 40)


@given(gained=counts, lost=counts, same=counts)
def test_the_interval_holds_the_gain_and_mirrors(gained: int, lost: int, same: int) -> None:
    questions = gained + lost + same
    assume(questions > 0)
    low, high = gain_interval(gained, lost, questions)
    assert -1 <= low <= (gained - lost) / questions <= high <= 1
    assert gain_interval(lost, gained, questions) == pytest.approx((-high, -low), abs=1e-9)


@given(gained=counts, lost=st.integers(1, 40), same=counts)
def test_a_loss_that_becomes_a_gain_raises_it(gained: int, lost: int, same: int) -> None:
    questions = gained + lost + same
    worse, better = gain_interval(gained, lost, questions), gain_interval(gained + 1, lost - 1, questions)
    assert worse[0] < better[0] and worse[1] < better[1]


def test_it_is_the_exact_interval_of_clopper_and_pearson() -> None:
    low, high = gain_interval(8, 2, 10)
    assert ((low + 1) / 2, (high + 1) / 2) == pytest.approx((0.4439, 0.9748), abs=1e-4)
    assert gain_interval(5, 0, 5)[0] < 0 < gain_interval(6, 0, 6)[0]


@pytest.mark.parametrize("counts", [(1, 1, 1), (-1, 0, 3), (0, 0, 0)])
def test_counts_that_do_not_fit(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        gain_interval(*counts)
