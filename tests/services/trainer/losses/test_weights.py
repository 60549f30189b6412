"""Weights of pairs: their mean, their bounds and what they grow with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.trainer.losses.weights import LEAST, MOST, pair_weights
from shared.contracts import Discrepancy


def test_weights_grow_with_what_they_are_weighed_by() -> None:
    pairs = [{"vote_share": 1.0, "confidence": 0.9}, {"vote_share": 1 / 3, "confidence": 0.1}, {"vote_share": 1.0}]
    by_votes = pair_weights(pairs, ["vote_share"])  # type: ignore[arg-type]
    assert by_votes[0] == by_votes[2] > by_votes[1]
    by_both = pair_weights(pairs, ["vote_share", "confidence"])  # type: ignore[arg-type]
    assert by_both[0] > by_both[2] > by_both[1]


@given(st.lists(st.floats(0, 1) | st.none(), min_size=1, max_size=30))
def test_weights_have_mean_one_and_bounds(values: list[float | None]) -> None:
    weights = pair_weights([{"confidence": value} for value in values], ["confidence"])
    assert sum(weights) / len(weights) == pytest.approx(1.0)
    assert min(weights) >= LEAST and max(weights) <= MOST
    assert pair_weights([{} for _ in values], ["confidence"]) == pytest.approx([1.0] * len(values))


@given(st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=30))
def test_weights_keep_mean_and_bounds_however_far_apart_the_pairs_are(values: list[tuple[float, ...]]) -> None:
    names: list[Discrepancy] = ["vote_share", "confidence", "reasoning", "attention"]
    weights = pair_weights([dict(zip(names, one, strict=True)) for one in values], names)
    assert sum(weights) / len(weights) == pytest.approx(1.0)
    assert min(weights) >= LEAST and max(weights) <= MOST


def test_one_heavy_pair_among_many_light_ones_is_held_at_the_bound() -> None:
    names: list[Discrepancy] = ["vote_share", "confidence"]
    light: dict[Discrepancy, float | None] = {"vote_share": 0.01, "confidence": 0.0}
    heavy: dict[Discrepancy, float | None] = {"vote_share": 1.0, "confidence": 1.0}
    weights = pair_weights([*[light] * 99, heavy], names)
    assert weights[-1] == MOST
    assert weights[0] == pytest.approx(96 / 99)
