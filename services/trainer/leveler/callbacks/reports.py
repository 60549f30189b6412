"""Adds what the job's status shows to what TensorBoard, MLflow and W&B get."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from services.trainer.leveler.callbacks.progress import ProgressFile


class ProgressInReports(TrainerCallback):
    """Must come before the reporters: all callbacks get the same dictionary, one after another."""

    def __init__(self, progress: ProgressFile) -> None:
        self._progress = progress

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        last = self._progress.last
        if last is None or logs is None:
            return
        extra = {"samples_per_second": last.samples_per_second, "memory_bytes": last.memory_bytes}
        logs |= {name: float(value) for name, value in extra.items() if value is not None}
        logs |= {f"loss_{name}": value for name, value in last.terms.items()}
