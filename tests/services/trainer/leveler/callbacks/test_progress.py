"""What the progress file says of a step."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.trainer.errors import TrainingDiverged
from tests.services.trainer.leveler.callbacks.played_steps import PlayedSteps


def test_the_mean_over_processes_and_micro_batches_is_written(tmp_path: Path) -> None:
    other = [4.0, 7e10, 0.5, 0.25]
    played = PlayedSteps(tmp_path / "progress.jsonl", gather=lambda row: [row, other])
    played.measures.add(1.0, {"answer": 1.5, "consistency": 0.5})
    played.step(3.0, norm=0.75, terms={"answer": 2.5, "consistency": 0.0})
    (line,) = played.lines
    assert (line.step, line.steps, line.loss) == (1, 50, 3.0)
    assert line.terms == {"answer": 1.25, "consistency": 0.25}
    assert line.gradient_norm == 0.75
    assert line.memory_bytes == 7e10
    assert line.samples_per_second is not None
    assert line.eta_seconds == pytest.approx(49 * 8 / line.samples_per_second, abs=0.1)


def test_a_step_does_not_count_the_one_before(tmp_path: Path) -> None:
    played = PlayedSteps(tmp_path / "progress.jsonl")
    played.step(3.0, terms={"answer": 3.0})
    played.step(1.0, terms={"answer": 1.0})
    assert [(line.loss, line.terms) for line in played.lines] == [(3.0, {"answer": 3.0}), (1.0, {"answer": 1.0})]


def test_only_one_process_keeps_the_file_and_all_stop_alike(tmp_path: Path) -> None:
    rows = [[90.0, 1.0], [2.0, 1.0]]
    for first in (True, False):
        played = PlayedSteps(tmp_path / f"{first}.jsonl", first=first, gather=lambda _: rows)
        with pytest.raises(TrainingDiverged):
            played.step(2.0)
    assert (tmp_path / "True.jsonl").exists()
    assert not (tmp_path / "False.jsonl").exists()


def test_steps_that_will_be_done_again_are_dropped(tmp_path: Path) -> None:
    first = PlayedSteps(tmp_path / "progress.jsonl")
    for loss in range(1, 8):
        first.step(float(loss))
    again = PlayedSteps(tmp_path / "progress.jsonl", begins_at=5)
    assert [line.step for line in again.lines] == [1, 2, 3, 4, 5]
    assert again.progress.final_loss() == 3.0
