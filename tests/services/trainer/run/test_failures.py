"""What ends a training is left for the worker in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.trainer.errors import TrainingDiverged
from services.trainer.run.failures import report_failure, save_failure
from services.trainer.run_config import Failure, RunConfig, load
from shared.contracts import TrainSpec
from shared.errors import Unavailable
from shared.store import Store
from tests.services.trainer.small_set import run_config


@pytest.fixture
def config(tmp_path: Path, small_set: Store, tiny_student: Path) -> RunConfig:
    return run_config(tmp_path, tiny_student, TrainSpec())


def reported(config: RunConfig) -> Failure | None:
    return load(Failure, config.folder / "failure.json")


@pytest.mark.parametrize("error", [TrainingDiverged("The loss became nan."), Unavailable("The disk is busy.")])
def test_an_error_is_reported_in_its_own_words(config: RunConfig, error: TrainingDiverged | Unavailable) -> None:
    with pytest.raises(type(error)), report_failure(config, "train"):
        raise error
    assert reported(config) == Failure(error.detail, final=isinstance(error, TrainingDiverged))


def test_the_first_of_several_processes_gives_the_reason(config: RunConfig) -> None:
    save_failure(config, Failure("out of memory", final=False))
    save_failure(config, Failure("the others are gone", final=False))
    assert reported(config) == Failure("out of memory", final=False)
    assert [path.name for path in config.folder.iterdir()] == ["failure.json"]
