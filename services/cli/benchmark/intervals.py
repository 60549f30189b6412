"""How certain a mean over questions is, and whether two runs over the same questions differ.

NumPy is imported on first use: the other commands work without it, and the parity service's image does not have it.
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.errors import InvalidInput

RESAMPLES = 2000


def bootstrap_interval(
    scores: Sequence[float], *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean, questions resampled. Raises InvalidInput without scores."""
    if not scores:
        raise InvalidInput("There is no score: an interval needs at least one question.")
    import numpy as np

    values, rng = np.asarray(scores, dtype=float), np.random.default_rng(seed)
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_p_value(
    first: Sequence[float], second: Sequence[float], *, resamples: int = RESAMPLES, seed: int = 0
) -> float:
    """Two-sided sign-flip permutation test of the mean difference; never 0 (the observed flip counts as one).

    Raises InvalidInput unless both hold the same number of questions, at least one.
    """
    if len(first) != len(second) or not first:
        raise InvalidInput("A paired test needs the same questions, at least one, in both runs.")
    import numpy as np

    differences = np.asarray(second, dtype=float) - np.asarray(first, dtype=float)
    rng, observed = np.random.default_rng(seed), abs(differences.mean()) - 1e-12
    flipped = [abs((differences * rng.choice((-1.0, 1.0), len(differences))).mean()) for _ in range(resamples)]
    return float((1 + sum(bool(value >= observed) for value in flipped)) / (1 + resamples))
