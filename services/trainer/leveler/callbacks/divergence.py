"""Stops a training that diverges before a bad step is applied or saved."""

from __future__ import annotations

import math
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from services.trainer.errors import TrainingDiverged
from services.trainer.leveler.callbacks.measures import StepMeasures
from services.trainer.leveler.callbacks.progress import ProgressFile

_EXPLODED = 1000.0
_PATIENCE = 10
_UNHARMED = "The last saved step is unharmed."


class DivergenceWatch(TrainerCallback):
    """Raises TrainingDiverged if a loss or a gradient is not finite, or too large for too long.

    Losses and gradients are checked before the optimiser's step. ``progress`` has the mean loss over all processes,
    so all of them stop at the same step; ``vocabulary`` is the number of tokens that the student chooses from.
    """

    def __init__(self, measures: StepMeasures, progress: ProgressFile, vocabulary: int) -> None:
        self._measures, self._progress = measures, progress
        self._worst = 2 * math.log(vocabulary)
        self._large = 0
        self._average: float | None = None

    def on_substep_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._check_loss(state.global_step + 1)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._check_loss(state.global_step + 1)
        if self._measures.gradient_norm is not None:
            self._check_gradient(self._measures.gradient_norm, args.max_grad_norm, state.global_step + 1)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Compare the answer's cross-entropy with guessing: only this term of the loss has a known worst value."""
        last = self._progress.last
        if last is None:
            return
        answer = last.terms.get("answer", last.loss)
        self._average = answer if self._average is None else 0.9 * self._average + 0.1 * answer
        if self._average > self._worst:
            raise TrainingDiverged(
                f"The loss rose to {self._average:.1f} by step {last.step}, worse than guessing: "
                f"lower train.learning_rate. {_UNHARMED}"
            )

    def _check_loss(self, step: int) -> None:
        for loss in self._measures.losses:
            if not math.isfinite(loss):
                raise TrainingDiverged(
                    f"The loss became {loss} at step {step}: lower train.learning_rate, or train in fp32. {_UNHARMED}"
                )

    def _check_gradient(self, norm: float, clipped_to: float, step: int) -> None:
        """After clipping, only its direction is left of a gradient that stays enormous."""
        self._large = self._large + 1 if norm > _EXPLODED * clipped_to else 0
        if math.isfinite(norm) and self._large < _PATIENCE:
            return
        what = f"became {norm}" if not math.isfinite(norm) else f"stayed over {_EXPLODED:g} × train.max_grad_norm"
        raise TrainingDiverged(
            f"The gradient's norm {what} at step {step}: lower train.learning_rate, or train in fp32. {_UNHARMED}"
        )
