"""Bootstrap and paired test against what is known beforehand."""

from __future__ import annotations

import pytest

from services.cli.benchmark.intervals import bootstrap_interval, paired_p_value
from shared.errors import InvalidInput


def test_interval_has_the_width_of_theory() -> None:
    low, high = bootstrap_interval([0.0, 1.0] * 200)
    assert low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.01) and high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.01)


def test_paired_test_tells_gain_from_noise() -> None:
    assert paired_p_value([0.0] * 40, [1.0] * 40) < 0.01
    assert paired_p_value([0.0, 1.0] * 20, [1.0, 0.0] * 20) > 0.9
    assert paired_p_value([1.0], [1.0]) == 1.0


def test_refuses_nothing_and_unequal() -> None:
    with pytest.raises(InvalidInput, match="no score"):
        bootstrap_interval([])
    with pytest.raises(InvalidInput, match="same questions"):
        paired_p_value([1.0], [])
