"""Losses, gradients, speed and memory of a training: divergence is noticed here, and progress written."""

from __future__ import annotations

import json
import math
import resource
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import torch

from services.trainer.errors import TrainingDiverged
from services.trainer.run_config import Progress, read_progress

_RATE_STEPS = 20
_EXPLODED = 1000.0
_PATIENCE = 10

Gather = Callable[[list[float]], list[list[float]]]


def _alone(row: list[float]) -> list[list[float]]:
    return [row]


class Meter:
    """Losses and speed of a run: checks them, and writes one line a step to the progress file.

    Each process of a training has one. ``gather`` returns what all of them pass, a row a process; the one with
    ``writes`` keeps the file. All raise alike, because what they check in ``step_done`` is the mean over them.
    """

    def __init__(
        self,
        file: Path,
        steps: int,
        samples_per_step: int,
        resumed_at: int,
        *,
        max_norm: float = 1.0,
        gather: Gather = _alone,
        writes: bool = True,
    ) -> None:
        self._file, self._steps, self._samples = file, steps, samples_per_step
        self._max_norm, self._gather, self._writes = max_norm, gather, writes
        self._losses: list[float] = []
        self._micro: list[float] = []
        self._terms: dict[str, list[float]] = {}
        self._norm: float | None = None
        self._large = self._vocabulary = 0
        self._ends: deque[float] = deque([time.monotonic()], maxlen=_RATE_STEPS + 1)
        self._average: float | None = None
        self.last: Progress | None = None
        self._keep_until(resumed_at)

    def saw(self, loss: float, vocabulary: int, step: int, terms: Mapping[str, float] | None = None) -> None:
        """Note a micro-batch's loss, and its terms by name; raises TrainingDiverged if it is no number."""
        self._micro.append(loss)
        self._vocabulary = vocabulary
        for name, value in (terms or {}).items():
            self._terms.setdefault(name, []).append(value)
        if not math.isfinite(loss):
            raise TrainingDiverged(
                f"The loss became {loss} at step {step + 1}: lower train.learning_rate, or train in fp32. "
                "The last saved step is unharmed."
            )

    def gradient(self, norm: float, step: int) -> None:
        """Note the gradient's norm before clipping and before it is applied. Raises TrainingDiverged if it is no
        number, or lastingly so large that nothing but its direction is left of it.
        """
        self._norm = norm
        self._large = self._large + 1 if norm > _EXPLODED * self._max_norm else 0
        if math.isfinite(norm) and self._large < _PATIENCE:
            return
        what = f"became {norm}" if not math.isfinite(norm) else f"stayed over {_EXPLODED:g} × train.max_grad_norm"
        raise TrainingDiverged(
            f"The gradient's norm {what} at step {step + 1}: lower train.learning_rate, or train in fp32. "
            "The last saved step is unharmed."
        )

    def step_done(self, step: int) -> None:
        """Close a step; raises TrainingDiverged if the loss is lastingly worse than twice guessing."""
        names = sorted(self._terms)
        own = [_mean(self._micro), float(peak_memory()), *(_mean(self._terms[name]) for name in names)]
        losses, memory, *terms = zip(*self._gather(own), strict=True)
        loss = _mean(losses)
        self._micro.clear()
        self._terms.clear()
        self._losses.append(loss)
        self._ends.append(time.monotonic())
        rate = self.rate()
        self.last = Progress(
            step,
            self._steps,
            round(loss, 6),
            rate,
            round((self._steps - step) * self._samples / rate, 1) if rate else None,
            int(max(memory)),
            None if self._norm is None else round(self._norm, 6),
            {name: round(_mean(values), 6) for name, values in zip(names, terms, strict=True)},
        )
        if self._writes:
            with self._file.open("a") as file:
                file.write(json.dumps(asdict(self.last)) + "\n")
        self._check(self.last.terms.get("answer", loss), step)

    def rate(self) -> float | None:
        """Samples a second over the last steps, by all processes together."""
        seconds = self._ends[-1] - self._ends[0]
        return round((len(self._ends) - 1) * self._samples / seconds, 1) if seconds > 0 else None

    def final_loss(self) -> float:
        """Mean loss of the last steps, resumed ones included."""
        return _mean(self._losses[-_RATE_STEPS:])

    def _check(self, answer: float, step: int) -> None:
        """The answer's cross-entropy, without the other terms: only that has a known worst."""
        self._average = answer if self._average is None else 0.9 * self._average + 0.1 * answer
        if self._average > 2 * math.log(self._vocabulary):
            raise TrainingDiverged(
                f"The loss rose to {self._average:.1f} by step {step}, worse than guessing: "
                "lower train.learning_rate. The last saved step is unharmed."
            )

    def _keep_until(self, step: int) -> None:
        """Drop lines of steps that will be done again."""
        kept = [line for line in read_progress(self._file) if line.step <= step]
        self._losses = [line.loss for line in kept]
        if self._writes:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text("".join(json.dumps(asdict(line)) + "\n" for line in kept))


def peak_memory() -> int:
    """Most bytes that this process took so far: of its GPU where it uses one, else resident in the machine's memory."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _mean(values: list[float] | tuple[float, ...]) -> float:
    return sum(values) / len(values) if values else math.nan
