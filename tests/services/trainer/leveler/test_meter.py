"""When a training is stopped, and what its progress says."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from services.trainer.errors import TrainingDiverged, can_be_retried
from services.trainer.leveler.meter import Meter
from services.trainer.run_config import read_progress

WORDS = 100


def stay_at(measured: Meter, loss: float) -> None:
    for step in range(6, 30):
        measured.saw(loss, WORDS, step - 1)
        measured.step_done(step)


def meter(tmp_path: Path, **options: object) -> Meter:
    return Meter(tmp_path / "progress.jsonl", 50, 8, 0, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_at_once(tmp_path: Path, loss: float) -> None:
    with pytest.raises(TrainingDiverged, match=r"at step 8: lower train\.learning_rate") as caught:
        meter(tmp_path).saw(loss, WORDS, 7)
    assert not can_be_retried(caught.value)


def test_a_lasting_explosion_stops_but_a_single_bad_step_does_not(tmp_path: Path) -> None:
    measured = meter(tmp_path)
    for step, loss in enumerate([2.0, 2.0, 60.0, 2.0, 2.0], start=1):
        measured.saw(loss, WORDS, step - 1)
        measured.step_done(step)
    with pytest.raises(TrainingDiverged, match="worse than guessing"):
        stay_at(measured, 20.0)


def test_only_the_answers_loss_is_held_against_guessing(tmp_path: Path) -> None:
    measured = meter(tmp_path)
    for step in range(1, 30):
        measured.saw(40.0, WORDS, step - 1, {"answer": 1.0, "attention": 0.6})
        measured.step_done(step)
    assert measured.final_loss() == 40.0


@pytest.mark.parametrize("norm", [math.nan, math.inf])
def test_a_gradient_that_is_no_number_stops_at_once(tmp_path: Path, norm: float) -> None:
    with pytest.raises(TrainingDiverged, match="gradient's norm became"):
        meter(tmp_path).gradient(norm, 3)


def test_a_gradient_that_stays_enormous_stops(tmp_path: Path) -> None:
    measured = meter(tmp_path, max_norm=2.0)
    for step in range(9):
        measured.gradient(2500.0, step)
    measured.gradient(3.0, 9)
    for step in range(10, 19):
        measured.gradient(2500.0, step)
    with pytest.raises(TrainingDiverged, match=r"stayed over 1000 × train\.max_grad_norm"):
        measured.gradient(2500.0, 19)


def test_the_mean_over_processes_and_micro_batches_is_written(tmp_path: Path) -> None:
    other = [4.0, 7e10, 0.5, 0.25]
    measured = meter(tmp_path, gather=lambda row: [row, other])
    measured.saw(1.0, WORDS, 0, {"answer": 1.5, "consistency": 0.5})
    measured.saw(3.0, WORDS, 0, {"answer": 2.5, "consistency": 0.0})
    measured.gradient(0.75, 0)
    measured.step_done(1)
    (line,) = read_progress(tmp_path / "progress.jsonl")
    assert (line.step, line.steps, line.loss) == (1, 50, 3.0)
    assert line.terms == {"answer": 1.25, "consistency": 0.25}
    assert line.gradient_norm == 0.75
    assert line.memory_bytes == 7e10
    assert line.samples_per_second is not None
    assert line.eta_seconds == pytest.approx(49 * 8 / line.samples_per_second, abs=0.1)


def test_only_one_process_keeps_the_file_and_all_stop_alike(tmp_path: Path) -> None:
    rows = [[90.0, 1.0], [2.0, 1.0]]
    for writes in (True, False):
        measured = Meter(tmp_path / f"{writes}.jsonl", 5, 8, 0, gather=lambda _: rows, writes=writes)
        measured.saw(2.0, WORDS, 0)
        with pytest.raises(TrainingDiverged):
            measured.step_done(1)
    assert (tmp_path / "True.jsonl").exists()
    assert not (tmp_path / "False.jsonl").exists()


def test_steps_that_will_be_done_again_are_dropped(tmp_path: Path) -> None:
    first = meter(tmp_path)
    for step in range(1, 8):
        first.saw(float(step), WORDS, step - 1)
        first.step_done(step)
    again = Meter(tmp_path / "progress.jsonl", 50, 8, resumed_at=5)
    assert [line.step for line in read_progress(tmp_path / "progress.jsonl")] == [1, 2, 3, 4, 5]
    assert again.final_loss() == 3.0
