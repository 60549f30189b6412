"""When a training is stopped."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from services.trainer.errors import TrainingDiverged, can_be_retried
from tests.services.trainer.leveler.callbacks.played_steps import PlayedSteps


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "progress.jsonl"


@pytest.mark.parametrize("loss", [math.nan, math.inf])
@pytest.mark.parametrize("others", [(), (2.0, 2.0)])
def test_a_loss_that_is_not_finite_stops_before_the_step(file: Path, loss: float, others: tuple[float, ...]) -> None:
    played = PlayedSteps(file, begins_at=7)
    with pytest.raises(TrainingDiverged, match=r"at step 8: lower train\.learning_rate") as caught:
        played.step(loss, *others)
    assert played.state.global_step == 7
    assert len(played.measures.losses) == 1, "the other micro-batches are not computed"
    assert not can_be_retried(caught.value)


def test_a_lasting_explosion_stops_but_a_single_bad_step_does_not(file: Path) -> None:
    played = PlayedSteps(file)
    for loss in (2.0, 2.0, 60.0, 2.0, 2.0):
        played.step(loss)
    with pytest.raises(TrainingDiverged, match="worse than guessing"):
        played.steps(20, 20.0)


def test_only_the_answers_loss_is_compared_with_guessing(file: Path) -> None:
    played = PlayedSteps(file)
    for _ in range(29):
        played.step(40.0, terms={"answer": 1.0, "attention": 0.6})
    assert played.progress.final_loss() == 40.0


@pytest.mark.parametrize("norm", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_is_never_applied(file: Path, norm: float) -> None:
    played = PlayedSteps(file)
    with pytest.raises(TrainingDiverged, match=r"gradient's norm became (nan|inf) at step 1"):
        played.step(2.0, norm=norm)
    assert played.state.global_step == 0


def test_a_gradient_that_stays_enormous_stops(file: Path) -> None:
    played = PlayedSteps(file, max_norm=2.0)
    for norm in (*[2500.0] * 9, 3.0, *[2500.0] * 9):
        played.step(2.0, norm=norm)
    with pytest.raises(TrainingDiverged, match=r"stayed over 1000 × train\.max_grad_norm at step 20"):
        played.step(2.0, norm=2500.0)


def test_an_engine_that_reports_no_gradient_norm_is_not_stopped(file: Path) -> None:
    played = PlayedSteps(file)
    played.step(2.0, norm=None)
    assert played.lines[0].gradient_norm is None
