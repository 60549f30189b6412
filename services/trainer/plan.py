"""Which samples make up which batch: a pure function of (seed, batch number), so that resuming needs no sampler
state.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

from shared.contracts import TrainSpec


@dataclass(frozen=True)
class BatchPlan:
    """Batches of ``batch_size`` indices: ``disparity`` ones are 0 … n-1, ``replay`` holds the indices of each task.

    Over any run of batches the share of replay is ``replay_fraction`` to within one sample. Disparity pairs come in
    passes, each a fresh permutation; replay takes the tasks in turn, each in passes of its own.
    """

    disparity: int
    replay: tuple[tuple[int, ...], ...]
    batch_size: int
    replay_fraction: float
    seed: int
    _share: Fraction = field(init=False, repr=False, compare=False, default=Fraction(0))

    def __post_init__(self) -> None:
        if self.disparity < 1:
            raise ValueError("a batch plan needs at least one disparity pair")
        share = Fraction(self.replay_fraction).limit_denominator(10_000) if any(self.replay) else Fraction(0)
        object.__setattr__(self, "_share", share)

    def batch(self, number: int) -> list[int]:
        """Dataset indices of batch ``number`` (0, 1, …), disparity pairs first."""
        first, last = number * self.batch_size, (number + 1) * self.batch_size
        replay_first, replay_last = self._replay_before(first), self._replay_before(last)
        chosen = [self._disparity_at(slot) for slot in range(first - replay_first, last - replay_last)]
        return chosen + [self._replay_at(slot) for slot in range(replay_first, replay_last)]

    def _replay_before(self, slots: int) -> int:
        """How many of the first ``slots`` samples are replay."""
        return math.floor(slots * self._share)

    def _disparity_at(self, slot: int) -> int:
        turn, place = divmod(slot, self.disparity)
        return _shuffled(self.seed, "disparity", turn, self.disparity)[place]

    def _replay_at(self, slot: int) -> int:
        pools = [pool for pool in self.replay if pool]
        round_, task = divmod(slot, len(pools))
        turn, place = divmod(round_, len(pools[task]))
        return pools[task][_shuffled(self.seed, f"replay-{task}", turn, len(pools[task]))[place]]


def optimiser_steps(spec: TrainSpec, disparity: int, has_replay: bool) -> int:
    """``max_steps`` if given; else enough for ``epochs`` passes over ``disparity`` pairs."""
    if spec.max_steps is not None:
        return spec.max_steps
    share = 1 - spec.replay_fraction if has_replay else 1.0
    per_step = spec.batch_size * spec.gradient_accumulation * share
    return max(1, math.ceil(spec.epochs * disparity / per_step - 1e-9))


@lru_cache(maxsize=64)
def _shuffled(seed: int, kind: str, turn: int, size: int) -> tuple[int, ...]:
    order = list(range(size))
    random.Random(f"{seed}/{kind}/{turn}").shuffle(order)
    return tuple(order)
