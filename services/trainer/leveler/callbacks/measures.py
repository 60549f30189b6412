"""What one process sees of the current optimiser step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass
class StepMeasures:
    """Written by the trainer in each step, read by its callbacks, and emptied by the progress when the step is done.

    ``losses``: a loss for each micro-batch. ``terms``: the same for each term of the loss by name, before its λ and the
    weights of the pairs. ``gradient_norm``: before clipping; None where the engine does not report it.
    """

    losses: list[float] = field(default_factory=list)
    terms: dict[str, list[float]] = field(default_factory=dict)
    gradient_norm: float | None = None

    def add(self, loss: float, terms: Mapping[str, float]) -> None:
        """Note the loss of a micro-batch and its terms."""
        self.losses.append(loss)
        for name, value in terms.items():
            self.terms.setdefault(name, []).append(value)

    def start_step(self) -> None:
        """Forget the micro-batches of the previous step."""
        self.losses.clear()
        self.terms.clear()


def mean(values: Sequence[float]) -> float:
    """NaN if there are no values."""
    return sum(values) / len(values) if values else math.nan
