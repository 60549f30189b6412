"""Which samples make up which batch: a pure function of (seed, batch number).

So a resumed training needs no saved state of a sampler, and any number of processes can share a batch.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

from shared.contracts import TrainSpec

WINDOW = 16


@dataclass(frozen=True)
class BatchPlan:
    """Batches of ``batch_size`` indices: ``disparity`` ones are 0 … n-1, ``replay`` holds the indices of each task.

    Over any run of batches the share of replay is ``replay_fraction`` to within one sample. Disparity pairs come in
    passes, each a fresh permutation; replay takes the tasks in turn, each in passes of its own.

    With ``lengths`` (by dataset index) the samples of each ``WINDOW`` batches are sorted by length among these batches.
    Each batch keeps its number of disparity pairs and of each task's replay pairs, and a pass still has each pair once,
    but the samples of a batch have similar lengths. The seed decides which batch of the window gets the long ones.
    """

    disparity: int
    replay: tuple[tuple[int, ...], ...]
    batch_size: int
    replay_fraction: float
    seed: int
    lengths: tuple[int, ...] | None = field(default=None, repr=False)
    _streams: tuple[_Stream, ...] = field(init=False, repr=False, compare=False, default=())
    _share: Fraction = field(init=False, repr=False, compare=False, default=Fraction(0))
    _window: dict[int, list[list[int]]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        if self.disparity < 1:
            raise ValueError("a batch plan needs at least one disparity pair")
        pools = [pool for pool in self.replay if pool]
        share = Fraction(self.replay_fraction).limit_denominator(10_000) if pools else Fraction(0)
        object.__setattr__(self, "_share", share)
        streams = [_Stream(range(self.disparity), f"{self.seed}/disparity")]
        streams += [_Stream(pool, f"{self.seed}/replay-{task}") for task, pool in enumerate(pools)]
        object.__setattr__(self, "_streams", tuple(streams))

    def batch(self, number: int) -> list[int]:
        """Dataset indices of batch ``number`` (0, 1, …), disparity pairs first."""
        if self.lengths is None:
            return [index for index, _ in self._planned(number)]
        window, place = divmod(number, WINDOW)
        if window not in self._window:
            self._window.clear()
            self._window[window] = self._by_length(window)
        return self._window[window][place]

    def _planned(self, number: int) -> Iterator[tuple[int, tuple[int, int]]]:
        """Each sample of a batch before sorting: its index, and the (stream, pass) that it comes from."""
        first, last = number * self.batch_size, (number + 1) * self.batch_size
        replay_first, replay_last = self._replay_before(first), self._replay_before(last)
        for slot in range(first - replay_first, last - replay_last):
            yield self._streams[0].at(slot), (0, self._streams[0].turn(slot))
        tasks = len(self._streams) - 1
        for slot in range(replay_first, replay_last):
            round_, task = divmod(slot, tasks)
            stream = self._streams[task + 1]
            yield stream.at(round_), (task + 1, stream.turn(round_))

    def _replay_before(self, slots: int) -> int:
        """How many of the first ``slots`` samples are replay."""
        return math.floor(slots * self._share)

    def _by_length(self, window: int) -> list[list[int]]:
        """The batches of a window. The samples from one pass of one stream are sorted, and handed out in ``order``."""
        lengths = self.lengths or ()
        drawn = [list(self._planned(window * WINDOW + place)) for place in range(WINDOW)]
        pooled: dict[tuple[int, int], list[int]] = {}
        for index, source in (sample for batch in drawn for sample in batch):
            pooled.setdefault(source, []).append(index)
        order = _shuffled(f"{self.seed}/window/{window}", WINDOW)
        taken = {source: iter(sorted(found, key=lambda index: lengths[index])) for source, found in pooled.items()}
        dealt: list[list[int]] = [[] for _ in range(WINDOW)]
        for place in order:
            dealt[place] = [next(taken[source]) for _, source in drawn[place]]
        return dealt


@dataclass(frozen=True)
class _Stream:
    """``pool`` over and over, each pass in a new order."""

    pool: Sequence[int]
    seed: str

    def turn(self, slot: int) -> int:
        return slot // len(self.pool)

    def at(self, slot: int) -> int:
        turn, place = divmod(slot, len(self.pool))
        return self.pool[_shuffled(f"{self.seed}/{turn}", len(self.pool))[place]]


def optimiser_steps(spec: TrainSpec, disparity: int, has_replay: bool) -> int:
    """``max_steps`` if given; else enough for ``epochs`` passes over ``disparity`` pairs."""
    if spec.max_steps is not None:
        return spec.max_steps
    share = 1 - spec.replay_fraction if has_replay else 1.0
    per_step = spec.batch_size * spec.gradient_accumulation * share
    return max(1, math.ceil(spec.epochs * disparity / per_step - 1e-9))


@lru_cache(maxsize=64)
def _shuffled(seed: str, size: int) -> tuple[int, ...]:
    order = list(range(size))
    random.Random(seed).shuffle(order)
    return tuple(order)
