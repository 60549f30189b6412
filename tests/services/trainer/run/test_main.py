"""The training as a process: killed and resumed, or orphaned."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from services.trainer.run.train import run_training
from services.trainer.run_config import RunConfig, TrainResult, load, read_progress, save
from shared.contracts import TrainSpec
from shared.store import Store
from tests.polling import wait_until
from tests.services.trainer.resumption import check_resumed, saved_progress, step_of
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
