"""The events of a training's steps, in the Trainer's order, with losses and gradients of the test's choice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerControl, TrainerState, TrainingArguments

from services.trainer.leveler.callbacks.divergence import DivergenceWatch
from services.trainer.leveler.callbacks.measures import StepMeasures
from services.trainer.leveler.callbacks.progress import ProgressFile
from services.trainer.run_config import Progress, read_progress

WORDS = 100


class PlayedSteps:
    """One process of a training of 50 steps with 8 samples each."""

    def __init__(
        self, file: Path, *, begins_at: int = 0, first: bool = True, max_norm: float = 1.0, **options: Any
    ) -> None:
        self.file, self.measures = file, StepMeasures()
        self.progress = ProgressFile(file, self.measures, samples_per_step=8, **options)
        self.callbacks = (self.progress, DivergenceWatch(self.measures, self.progress, WORDS))
        self.arguments = TrainingArguments(output_dir=str(file.parent), max_grad_norm=max_norm, use_cpu=True)
        self.state = TrainerState(max_steps=50, global_step=begins_at, is_world_process_zero=first)
        self._say("on_train_begin")

    def step(self, *losses: float, norm: float | None = 1.0, terms: dict[str, float] | None = None) -> None:
        """A step with a micro-batch for each of ``losses``."""
        for number, loss in enumerate(losses, 1):
            self.measures.add(loss, terms or {})
            if number < len(losses):
                self._say("on_substep_end")
        self.measures.gradient_norm = norm
        self._say("on_pre_optimizer_step")
        self.state.global_step += 1
        self._say("on_step_end")

    def steps(self, number: int, loss: float) -> None:
        """The same step again and again."""
        for _ in range(number):
            self.step(loss)

    @property
    def lines(self) -> list[Progress]:
        return read_progress(self.file)

    def _say(self, event: str) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self.arguments, self.state, TrainerControl())
