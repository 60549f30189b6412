"""Several real processes train as one does: same losses, same weights, also when they are killed and resumed."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from services.trainer.errors import TrainingCrashed
from services.trainer.launch import command as launch
from services.trainer.launch.child import run_phase
from services.trainer.leveler import last_complete_step
from services.trainer.run.train import run_training
from services.trainer.run_config import RunConfig, TrainResult, last_progress, load, read_progress
from shared.contracts import LoraSpec, TrainSpec
from shared.errors import InvalidInput
from shared.store import Store
from tests.polling import async_wait_until
from tests.processes import command_line
from tests.services.trainer.resumption import check_resumed, saved_progress
from tests.services.trainer.small_set import run_config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
TWO = Path(launch.__file__).parents[1] / "accelerate" / "ddp-cpu.yaml"
SPEC = TrainSpec(batch_size=8, max_steps=12, learning_rate=3e-3, save_every_steps=4, warmup_fraction=0.0)
FSDP_ON_CPU = """
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
num_machines: 1
num_processes: 2
use_cpu: true
fsdp_config:
  fsdp_version: 2
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_reshard_after_forward: true
  fsdp_state_dict_type: FULL_STATE_DICT
  fsdp_cpu_ram_efficient_loading: false
"""


async def nothing() -> None:
    return None


def by_two(config: RunConfig, file: Path = TWO) -> RunConfig:
    return replace(config, accelerate_config=file)


def step_of(config: RunConfig) -> int:
    line = last_progress(config.progress_file)
    return line.step if line else 0


def losses(config: RunConfig) -> list[float]:
    return [line.loss for line in read_progress(config.progress_file)]


def weights(config: RunConfig) -> dict[str, torch.Tensor]:
    return load_file(config.candidate / "model.safetensors")


def close(one: RunConfig, two: RunConfig, atol: float = 1e-4) -> bool:
    before, after = weights(one), weights(two)
    return before.keys() == after.keys() and all(torch.allclose(before[k], after[k], atol=atol) for k in before)


def trainers_of(config: RunConfig) -> list[int]:
    """The training's own processes, without the launcher, in the order of their start."""
    running = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    found = [pid for pid in running if str(config.folder) in command_line(pid)]
    return sorted(pid for pid in found if "accelerate" not in command_line(pid))


async def test_two_processes_train_like_one_that_accumulates_twice(
    tmp_path: Path, small_set: Store, tiny_student: Path
) -> None:
    halves = SPEC.model_copy(update={"batch_size": 4, "gradient_accumulation": 2})
    alone = run_config(tmp_path, tiny_student, halves, folder="alone")
    together = by_two(run_config(tmp_path, tiny_student, SPEC, folder="together"))
    run_training(alone)
    await run_phase(together, "train", nothing, {})
    assert losses(together) == pytest.approx(losses(alone), rel=1e-4)
    assert close(alone, together)
    result = load(TrainResult, together.folder / "result.json")
    assert result is not None
    assert result.steps == SPEC.max_steps


async def test_two_processes_that_are_killed_resume_where_they_were(
    tmp_path: Path, small_set: Store, tiny_student: Path
) -> None:
    """With all that could go astray: batches by length, accumulation, features shared through files, batches that do
    not divide by two.
    """
    changes = {"length_bucketing": True, "gradient_accumulation": 2, "freeze_vision": True, "batch_size": 5}
    spec = SPEC.model_copy(update={**changes, "max_steps": 30})
    undisturbed = run_config(tmp_path, tiny_student, spec, folder="undisturbed")
    run_training(undisturbed)
    killed = by_two(run_config(tmp_path, tiny_student, spec, folder="killed"))

    async def kill_one() -> None:
        if step_of(killed) >= 10:
            for pid in trainers_of(killed)[:1]:
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(TrainingCrashed):
        await run_phase(killed, "train", kill_one, {})
    await async_wait_until(lambda: _gone(killed), timeout=20)
    kept = saved_progress(killed.folder)
    await run_phase(killed, "train", nothing, {})
    check_resumed(killed.folder, kept, 30)
    assert losses(killed) == pytest.approx(losses(undisturbed), rel=1e-3)
    assert close(undisturbed, killed, atol=1e-3)
    assert not (killed.folder / "features").exists()


async def _gone(config: RunConfig) -> bool:
    return not trainers_of(config)


async def test_cancelling_ends_the_launcher_and_all_its_processes(
    tmp_path: Path, small_set: Store, tiny_student: Path
) -> None:
    config = by_two(run_config(tmp_path, tiny_student, SPEC.model_copy(update={"max_steps": 100_000})))

    async def going() -> bool:
        return step_of(config) >= 1

    task = asyncio.create_task(run_phase(config, "train", nothing, {}))
    await async_wait_until(going, timeout=200)
    assert len(trainers_of(config)) == 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert trainers_of(config) == []


async def test_what_one_of_them_reports_is_raised(tmp_path: Path, small_set: Store, tiny_student: Path) -> None:
    path = sorted((tmp_path / "images").iterdir())[0]
    path.write_bytes(sorted((tmp_path / "images").iterdir())[1].read_bytes())
    config = by_two(run_config(tmp_path, tiny_student, SPEC))
    with pytest.raises(InvalidInput, match=path.name):
        await run_phase(config, "train", nothing, {})


async def test_sharded_weights_are_trained_resumed_and_saved_whole(
    tmp_path: Path, small_set: Store, tiny_student: Path
) -> None:
    """FSDP 2 with LoRA, over gloo: the same code as on GPUs."""
    file = tmp_path / "fsdp.yaml"
    file.write_text(FSDP_ON_CPU)
    spec = SPEC.model_copy(update={"method": "lora", "lora": LoraSpec(rank=4, alpha=8, dropout=0.0)})
    alone = run_config(tmp_path, tiny_student, spec, folder="alone")
    run_training(alone)
    sharded = by_two(run_config(tmp_path, tiny_student, spec, folder="sharded"), file)
    environment = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1] / "fsdp_on_cpu"), *_python_path()])}

    async def kill_at_six() -> None:
        if 6 <= step_of(sharded) < 12:
            for pid in trainers_of(sharded):
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(TrainingCrashed):
        await run_phase(sharded, "train", kill_at_six, environment)
    saved = last_complete_step(sharded.step_folder)
    assert saved is not None
    assert (saved / "pytorch_model_fsdp.bin").exists()
    await async_wait_until(lambda: _gone(sharded), timeout=20)
    kept = saved_progress(sharded.folder)
    await run_phase(sharded, "train", nothing, environment)
    check_resumed(sharded.folder, kept, 12)
    assert losses(sharded) == pytest.approx(losses(alone), rel=1e-3)
    assert close(alone, sharded, atol=1e-3)


async def test_sharding_that_accelerate_leaves_out_is_refused(
    tmp_path: Path, small_set: Store, tiny_student: Path
) -> None:
    file = tmp_path / "fsdp.yaml"
    file.write_text(FSDP_ON_CPU)
    with pytest.raises(InvalidInput, match="FSDP, which accelerate supports on GPUs only"):
        await run_phase(by_two(run_config(tmp_path, tiny_student, SPEC), file), "train", nothing, {})


def _python_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
