"""Reporters such as TensorBoard get what the job's status shows, too."""

from __future__ import annotations

from pathlib import Path

from transformers import TrainerControl

from services.trainer.leveler.callbacks.reports import ProgressInReports
from tests.services.trainer.leveler.callbacks.played_steps import PlayedSteps


def logged(played: PlayedSteps, logs: dict[str, float]) -> dict[str, float]:
    ProgressInReports(played.progress).on_log(played.arguments, played.state, TrainerControl(), logs=logs)
    return logs


def test_rate_memory_and_terms_are_added_to_what_is_logged(tmp_path: Path) -> None:
    played = PlayedSteps(tmp_path / "progress.jsonl", gather=lambda row: [[*row[:1], 5e9, *row[2:]]])
    played.step(3.0, terms={"answer": 2.5, "consistency": 0.5})
    logs = logged(played, {"loss": 3.0})
    assert logs.pop("samples_per_second") > 0
    assert logs == {"loss": 3.0, "memory_bytes": 5e9, "loss_answer": 2.5, "loss_consistency": 0.5}


def test_before_the_first_step_nothing_is_added(tmp_path: Path) -> None:
    assert logged(PlayedSteps(tmp_path / "progress.jsonl"), {"loss": 3.0}) == {"loss": 3.0}
