"""Losses and speed of a training: divergence is noticed here, and progress written."""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from services.trainer.config import Progress, read_progress
from services.trainer.errors import TrainingDiverged

_RATE_STEPS = 20


class Meter:
    """Losses and speed of a run: checks them, and writes one line a step to the progress file."""

    def __init__(self, file: Path, steps: int, samples_per_step: int, resumed_at: int) -> None:
        self._file, self._steps, self._samples = file, steps, samples_per_step
        self._losses: list[float] = []
        self._micro: list[float] = []
        self._micro_terms: list[dict[str, float]] = []
        self._ends: deque[float] = deque([time.monotonic()], maxlen=_RATE_STEPS + 1)
        self._average: float | None = None
        self._keep_until(resumed_at)

    def saw(self, loss: float, vocabulary: int, step: int, terms: Mapping[str, float] | None = None) -> None:
        """Note a micro-batch's loss; raises TrainingDiverged if it is no number, or if the answers are lastingly worse
        than twice guessing. What other terms and weights add to the loss has no such bound.
        """
        self._micro.append(loss)
        self._micro_terms.append(dict(terms or {}))
        if not math.isfinite(loss):
            raise TrainingDiverged(
                f"The loss became {loss} at step {step + 1}: lower train.learning_rate, or train in fp32. "
                "The last saved step is unharmed."
            )
        answer = (terms or {}).get("answer", loss)
        self._average = answer if self._average is None else 0.9 * self._average + 0.1 * answer
        if self._average > 2 * math.log(vocabulary):
            raise TrainingDiverged(
                f"The loss rose to {self._average:.1f} by step {step + 1}, worse than guessing: "
                "lower train.learning_rate. The last saved step is unharmed."
            )

    def step_done(self, step: int) -> None:
        loss = sum(self._micro) / max(1, len(self._micro))
        terms = _means(self._micro_terms)
        self._micro.clear()
        self._micro_terms.clear()
        self._losses.append(loss)
        self._ends.append(time.monotonic())
        rate = self.rate()
        left = (self._steps - step) * self._samples
        line = Progress(step, self._steps, round(loss, 6), rate, round(left / rate, 1) if rate else None, terms)
        with self._file.open("a") as file:
            file.write(json.dumps(asdict(line)) + "\n")

    def rate(self) -> float | None:
        """Samples a second over the last steps."""
        seconds = self._ends[-1] - self._ends[0]
        return round((len(self._ends) - 1) * self._samples / seconds, 1) if seconds > 0 else None

    def final_loss(self) -> float:
        """Mean loss of the last steps, resumed ones included."""
        last = self._losses[-_RATE_STEPS:]
        return sum(last) / len(last) if last else math.nan

    def _keep_until(self, step: int) -> None:
        """Drop lines of steps that will be done again."""
        kept = [line for line in read_progress(self._file) if line.step <= step]
        self._losses = [line.loss for line in kept]
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text("".join(json.dumps(asdict(line)) + "\n" for line in kept))


def _means(several: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each term over the micro-batches of a step."""
    names = dict.fromkeys(name for terms in several for name in terms)
    return {name: round(sum(terms.get(name, 0.0) for terms in several) / len(several), 6) for name in names}
