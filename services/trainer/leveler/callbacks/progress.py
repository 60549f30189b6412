"""Writes a line to the progress file after each step: loss, speed, time left and memory."""

from __future__ import annotations

import json
import resource
import time
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from services.trainer.leveler.callbacks.measures import StepMeasures, mean
from services.trainer.leveler.distributed import Gather
from services.trainer.run_config import Progress, read_progress
from shared.contracts import finite

_RATE_STEPS = 20


class ProgressFile(TrainerCallback):
    """One line a step in ``file``: means over all processes of a training, of which the first writes.

    ``gather`` takes a row of numbers from each process and gives every process all rows.
    """

    def __init__(
        self, file: Path, measures: StepMeasures, *, samples_per_step: int, gather: Gather = lambda row: [row]
    ) -> None:
        self._file, self._measures, self._samples, self._gather = file, measures, samples_per_step, gather
        self._losses: list[float] = []
        self._ends: deque[float] = deque(maxlen=_RATE_STEPS + 1)
        self.last: Progress | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Drop the lines of steps that will be done again."""
        kept = [line for line in read_progress(self._file) if line.step <= state.global_step]
        self._losses = [line.loss for line in kept]
        if state.is_world_process_zero:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text("".join(map(_as_line, kept)))
        self._ends.append(time.monotonic())

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._ends.append(time.monotonic())
        self.last = self._progress(state.global_step, state.max_steps)
        self._losses.append(self.last.loss)
        if state.is_world_process_zero:
            with self._file.open("a") as file:
                file.write(_as_line(self.last))

    def rate(self) -> float | None:
        """Samples a second over the last steps, by all processes together."""
        seconds = self._ends[-1] - self._ends[0]
        return round((len(self._ends) - 1) * self._samples / seconds, 1) if seconds > 0 else None

    def final_loss(self) -> float:
        """Mean loss of the last steps, including those before a resumption."""
        return mean(self._losses[-_RATE_STEPS:])

    def _progress(self, step: int, steps: int) -> Progress:
        own = self._measures
        names = sorted(own.terms)
        row = [mean(own.losses), float(peak_memory()), *(mean(own.terms[name]) for name in names)]
        losses, memory, *terms = zip(*self._gather(row), strict=True)
        own.start_step()
        rate = self.rate()
        return Progress(
            step,
            steps,
            loss=round(mean(losses), 6),
            samples_per_second=rate,
            eta_seconds=round((steps - step) * self._samples / rate, 1) if rate else None,
            memory_bytes=int(max(memory)),
            gradient_norm=None if own.gradient_norm is None else round(own.gradient_norm, 6),
            terms={name: round(mean(values), 6) for name, values in zip(names, terms, strict=True)},
        )


def peak_memory() -> int:
    """The most bytes that this process has taken: of its GPU if it uses one, else resident in the machine's memory."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _as_line(progress: Progress) -> str:
    return json.dumps(finite(asdict(progress))) + "\n"
