"""The training as a process: killed and resumed, orphaned, failing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from services.trainer.errors import TrainingCrashed
from services.trainer.launch.child import run_phase
from services.trainer.run.train import run_training
from services.trainer.run_config import Failure, RunConfig, TrainResult, last_progress, load, read_progress, save
from shared.contracts import TrainSpec
from shared.errors import InvalidInput
from shared.store import Store
from tests.polling import async_wait_until, wait_until
from tests.processes import command_line
from tests.services.trainer.resumption import check_resumed, saved_progress
from tests.services.trainer.small_set import run_config

# Importing torch and transformers in a child takes a while on a busy machine.
pytestmark = pytest.mark.timeout(300)
STEPS = 30
SPEC = TrainSpec(batch_size=4, max_steps=STEPS, learning_rate=2e-3, save_every_steps=5)


def start(config: RunConfig) -> subprocess.Popen[bytes]:
    save(config.folder / "run.json", config)
    command = [sys.executable, "-m", "services.trainer.run", "train", str(config.folder / "run.json")]
    return subprocess.Popen(command, stdin=subprocess.PIPE)


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def processes_of(config: RunConfig) -> list[int]:
    """Ids of the processes that work in the run's folder."""
    running = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [pid for pid in running if str(config.folder) in command_line(pid)]


def step_of(config: RunConfig) -> int:
    line = last_progress(config.progress_file)
    return line.step if line else 0


@pytest.mark.slow
def test_killed_and_resumed_ends_in_the_same_weights(
    tmp_path: Path, small_set: Store, tiny_student: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    undisturbed = run_config(tmp_path, tiny_student, SPEC, folder="undisturbed")
    run_training(undisturbed)
    killed = run_config(tmp_path, tiny_student, SPEC, folder="killed")
    first = start(killed)
    processes.append(first)
    wait_until(lambda: step_of(killed) >= 12, timeout=200, every=0.005)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert load(TrainResult, killed.folder / "result.json") is None
    kept = saved_progress(killed.folder)
    assert 5 <= len(kept) < STEPS
    second = start(killed)
    processes.append(second)
    assert second.wait(200) == 0
    check_resumed(killed.folder, kept, STEPS)
    one, two = (load_file(config.candidate / "model.safetensors") for config in (undisturbed, killed))
    assert all(torch.equal(one[name], two[name]) for name in one)
    losses = [[line.loss for line in read_progress(config.progress_file)] for config in (undisturbed, killed)]
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_it_ends_when_its_parent_is_gone(
    tmp_path: Path, small_set: Store, tiny_student: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    config = run_config(tmp_path, tiny_student, SPEC.model_copy(update={"max_steps": 100_000}))
    process = start(config)
    processes.append(process)
    wait_until(lambda: step_of(config) >= 1, timeout=200)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(10) == 3


@pytest.mark.slow
async def test_cancelling_the_watch_kills_the_child(tmp_path: Path, small_set: Store, tiny_student: Path) -> None:
    config = run_config(tmp_path, tiny_student, SPEC.model_copy(update={"max_steps": 100_000}))

    async def watch() -> None:
        return None

    async def going() -> bool:
        return step_of(config) >= 1

    task = asyncio.create_task(run_phase(config, "train", watch, {}))
    await async_wait_until(going, timeout=200)
    (own,) = processes_of(config)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert command_line(own) == ""


@pytest.mark.slow
async def test_what_the_child_reports_is_raised(tmp_path: Path, small_set: Store, tiny_student: Path) -> None:
    sorted((tmp_path / "images").iterdir())[0].unlink()
    config = run_config(tmp_path, tiny_student, SPEC)

    async def watch() -> None:
        return None

    with pytest.raises(InvalidInput, match="no longer exist"):
        await run_phase(config, "train", watch, {})
    failure = load(Failure, config.folder / "failure.json")
    assert failure is not None
    assert failure.final


@pytest.mark.slow
async def test_a_child_that_dies_without_a_word_is_a_crash(
    tmp_path: Path, small_set: Store, tiny_student: Path
) -> None:
    config = run_config(tmp_path, tiny_student, SPEC.model_copy(update={"max_steps": 100_000}))

    async def watch() -> None:
        if step_of(config) >= 1:
            for pid in processes_of(config):
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(TrainingCrashed, match="signal 9"):
        await run_phase(config, "train", watch, {})
