"""How much a disparity pair counts: w(d), a product of one factor a discrepancy, with mean 1 over the set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared.alignment import Discrepancy

LEAST, MOST = 0.25, 4.0


def factor(name: Discrepancy, value: float | None) -> float:
    """The vote share itself (a label's odds of being right); ½ + gap for a gap in [0, 1]; 1 where it is unknown."""
    if value is None:
        return 1.0
    return value if name == "vote_share" else 0.5 + value


def pair_weights(
    discrepancies: Sequence[Mapping[Discrepancy, float | None]], weigh_by: Sequence[Discrepancy]
) -> list[float]:
    """Weights of the disparity pairs in their order: within [LEAST, MOST] times the mean, which is 1."""
    raw = []
    for values in discrepancies:
        product = 1.0
        for name in weigh_by:
            product *= factor(name, values.get(name))
        raw.append(product)
    mean = sum(raw) / len(raw) if raw else 1.0
    bounded = [min(MOST, max(LEAST, value / mean)) if mean > 0 else 1.0 for value in raw]
    level = sum(bounded) / len(bounded) if bounded else 1.0
    return [value / level for value in bounded]
