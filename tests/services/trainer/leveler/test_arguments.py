"""A job's spec as the arguments of Hugging Face's Trainer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from transformers import TrainingArguments

from services.trainer.launch.ranks import Ranks
from services.trainer.leveler.arguments import TrainFolders, TrainPlace, training_arguments
from shared.contracts import TrainSpec


def made(folder: Path, spec: TrainSpec, steps: int = 100, **place: object) -> TrainingArguments:
    names = ("base", "steps", "progress", "candidate", "features", "curves")
    folders = TrainFolders(**{name: folder / name for name in names})
    return training_arguments(spec, folders, steps, TrainPlace(cpu=True, cache_bytes=0, **place), seed=7)  # type: ignore[arg-type]


def test_the_spec_is_followed(tmp_path: Path) -> None:
    spec = TrainSpec(
        batch_size=6,
        gradient_accumulation=4,
        learning_rate=2e-4,
        warmup_fraction=0.1,
        weight_decay=0.05,
        max_grad_norm=0.5,
        save_every_steps=11,
        gradient_checkpointing=True,
        precision="bf16",
    )
    arguments = made(tmp_path, spec)
    assert arguments.per_device_train_batch_size == 6
    assert (arguments.gradient_accumulation_steps, arguments.gradient_checkpointing) == (4, True)
    assert (arguments.learning_rate, arguments.weight_decay, arguments.max_grad_norm) == (2e-4, 0.05, 0.5)
    assert (arguments.max_steps, arguments.warmup_steps, arguments.save_steps) == (100, 10, 11)
    assert (arguments.bf16, arguments.seed, arguments.use_cpu) == (True, 7, True)
    assert arguments.output_dir == str(tmp_path / "steps")


@pytest.mark.parametrize(("processes", "each"), [(1, 8), (2, 4), (3, 3), (8, 1)])
def test_processes_share_a_batch(tmp_path: Path, processes: int, each: int) -> None:
    arguments = made(tmp_path, TrainSpec(batch_size=8), ranks=Ranks(0, processes))
    assert arguments.per_device_train_batch_size == each


@pytest.mark.parametrize(
    ("method", "frozen", "unused"), [("full", False, True), ("full", True, False), ("lora", False, False)]
)
def test_unused_weights_are_looked_for_only_where_a_tower_may_have_them(
    tmp_path: Path, method: str, frozen: bool, unused: bool
) -> None:
    spec = TrainSpec.model_validate({"method": method, "freeze_vision": frozen})
    assert made(tmp_path, spec).ddp_find_unused_parameters is unused


@pytest.mark.parametrize(("steps", "every"), [(1, 1), (1999, 1), (2000, 1), (10_000, 5)])
def test_reporters_get_at_most_so_many_points(tmp_path: Path, steps: int, every: int) -> None:
    silent = made(tmp_path, TrainSpec(), steps)
    assert (silent.logging_strategy, silent.report_to) == ("no", [])
    reported = made(tmp_path, TrainSpec(), steps, report_to=("mlflow",))
    assert (reported.logging_strategy, reported.logging_steps, reported.report_to) == ("steps", every, [])


def test_tensorboard_writes_to_the_folder_of_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "elsewhere")
    made(tmp_path, TrainSpec(), report_to=("tensorboard",))
    assert os.environ["TENSORBOARD_LOGGING_DIR"] == str(tmp_path / "curves")
