"""Delays grow up to a limit, and start again after a long run."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.backoff import Backoff, RestartDelays


def test_delays_grow_up_to_the_longest() -> None:
    backoff = Backoff(0.5, 3.0)
    assert [backoff.delay(failures) for failures in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert Backoff(1.0, 100.0, factor=3.0).delay(4) == 27.0


@given(st.integers(0, 10**9), st.floats(0, 1))
def test_jitter_only_shortens_and_any_count_is_accepted(failures: int, jitter: float) -> None:
    whole = Backoff(0.1, 60.0).delay(failures)
    assert whole * (1 - jitter) - 1e-9 <= Backoff(0.1, 60.0, jitter=jitter).delay(failures) <= whole <= 60.0


def test_a_long_run_starts_the_delays_again() -> None:
    delays = RestartDelays(Backoff(0.5, 30.0), stable=60.0)
    assert [delays.after_run(seconds) for seconds in (0.0, 1.0, 60.0, 61.0, 2.0)] == [0.5, 1.0, 2.0, 0.5, 1.0]
