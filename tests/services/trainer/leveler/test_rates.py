"""The learning rate over a training, as a pure function."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.trainer.leveler.rates import rate_factor, warmup_steps


@given(steps=st.integers(1, 500), fraction=st.floats(0, 1))
def test_every_step_has_a_rate_and_one_has_the_peak(steps: int, fraction: float) -> None:
    warmup = warmup_steps(steps, fraction)
    rates = [rate_factor(step, warmup=warmup, steps=steps) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)
    assert rates.index(1.0) == warmup
    assert rates[: warmup + 1] == sorted(rates[: warmup + 1])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)


@pytest.mark.parametrize(
    ("steps", "fraction", "rates"),
    [(1, 0.05, [1.0]), (1, 1.0, [1.0]), (2, 0.05, [0.5, 1.0]), (2, 0.0, [1.0, 0.5]), (3, 1.0, [1 / 3, 2 / 3, 1.0])],
)
def test_short_trainings(steps: int, fraction: float, rates: list[float]) -> None:
    warmup = warmup_steps(steps, fraction)
    assert [rate_factor(step, warmup=warmup, steps=steps) for step in range(steps)] == pytest.approx(rates)
