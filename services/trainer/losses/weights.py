"""How much a disparity pair counts.

    w(d) = clip(c · Π f_j(d_j), 1/4, 4),   f(vote share) = v,   f(gap) = ½ + gap,   f(unknown) = 1

with the c for which the mean over the set's disparity pairs is 1. So the loss keeps its size, and no pair dominates the
others or vanishes. A vote share estimates the probability that a label is right, so it is used as it is. A gap's factor
is between ½ and 1½, because a pair without a gap in confidence may still be one that the student got wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared.contracts import Discrepancy

LEAST, MOST = 0.25, 4.0
_SMALLEST = 1e-9
_HALVINGS = 100


def factor(name: Discrepancy, value: float | None) -> float:
    """The vote share itself (a label's odds of being right); ½ + gap for a gap in [0, 1]; 1 where it is unknown."""
    if value is None:
        return 1.0
    return value if name == "vote_share" else 0.5 + value


def pair_weights(
    discrepancies: Sequence[Mapping[Discrepancy, float | None]], weigh_by: Sequence[Discrepancy]
) -> list[float]:
    """Weights of the disparity pairs in their order: each within [LEAST, MOST], their mean 1."""
    raw = []
    for values in discrepancies:
        product = 1.0
        for name in weigh_by:
            product *= factor(name, values.get(name))
        raw.append(max(product, _SMALLEST))
    return _levelled(raw)


def _levelled(raw: Sequence[float]) -> list[float]:
    """clip(c · raw) for the c that makes the mean 1; where nothing is clipped that is 1 / mean."""
    if not raw:
        return []
    plain = [value * len(raw) / sum(raw) for value in raw]
    if min(plain) >= LEAST and max(plain) <= MOST:
        return plain
    # the mean grows with c, from LEAST at the low end to MOST at the high end
    low, high = LEAST / max(raw), MOST / min(raw)
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        if sum(_clipped(raw, middle)) < len(raw):
            low = middle
        else:
            high = middle
    return _clipped(raw, high)


def _clipped(raw: Sequence[float], scale: float) -> list[float]:
    return [min(MOST, max(LEAST, scale * value)) for value in raw]
