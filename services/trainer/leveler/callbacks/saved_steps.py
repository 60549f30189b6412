"""The Trainer's checkpoints, with a marker in each complete one: a kill can leave half a folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

_COMPLETE = "complete"


class SavedSteps(TrainerCallback):
    """Marks a checkpoint as complete when every process has written its part of it."""

    def __init__(self, wait_for_everyone: Callable[[], None]) -> None:
        self._wait_for_everyone = wait_for_everyone

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._wait_for_everyone()
        if state.is_world_process_zero:
            (Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / _COMPLETE).touch()


def last_complete_step(folder: Path, clean: bool = True) -> Path | None:
    """The newest complete checkpoint in ``folder``, None if there is none; ``clean`` removes half-written ones."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    whole = [path for path in found if (path / _COMPLETE).exists()]
    for path in found if clean else []:
        if path not in whole:
            shutil.rmtree(path)
    return whole[-1] if whole else None
