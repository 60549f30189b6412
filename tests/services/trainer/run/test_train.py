"""A training in one process: interrupted and resumed, or begun with another set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerState

from services.trainer.leveler.callbacks.progress import ProgressFile
from services.trainer.run.train import run_training
from shared.contracts import LossSpec, TrainSpec
from shared.errors import InvalidInput
from shared.store import Store
from tests.services.trainer.full_set import config_for
from tests.services.trainer.resumption import check_resumed, saved_progress
from tests.services.trainer.small_set import run_config

SPEC = TrainSpec(batch_size=4, max_steps=15, learning_rate=2e-3, save_every_steps=5)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"method": "lora"}, {"freeze_vision": True, "gradient_accumulation": 2}])
def test_interrupted_and_resumed_ends_in_the_same_weights(
    tmp_path: Path, small_set: Store, tiny_student: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    spec = TrainSpec.model_validate({**SPEC.model_dump(), **changes})
    undisturbed = run_config(tmp_path, tiny_student, spec, folder="undisturbed")
    run_training(undisturbed)
    broken = run_config(tmp_path, tiny_student, spec, folder="broken")
    with monkeypatch.context() as patched:
        patched.setattr(ProgressFile, "on_step_end", _interrupt_at(12))
        with pytest.raises(KeyboardInterrupt):
            run_training(broken)
    assert not broken.candidate.exists()
    kept = saved_progress(broken.folder)
    run_training(broken)
    check_resumed(broken.folder, kept, 15)
    one, two = (load_file(config.candidate / "model.safetensors") for config in (undisturbed, broken))
    assert all(torch.equal(one[name], two[name]) for name in one)


def _interrupt_at(step: int) -> Callable[..., None]:
    original = ProgressFile.on_step_end

    def on_step_end(progress: ProgressFile, args: Any, state: TrainerState, control: Any, **more: Any) -> None:
        if state.global_step == step:
            raise KeyboardInterrupt
        original(progress, args, state, control, **more)

    return on_step_end


def test_a_set_that_changed_since_the_training_began_is_refused(
    tmp_path: Path, small_set: Store, tiny_student: Path
) -> None:
    config = replace(config_for(tmp_path, tiny_student, LossSpec()), set_digest="0" * 64)
    with pytest.raises(InvalidInput, match="the training began with 000000000000"):
        run_training(config)
