"""A training process that fails or dies leaves a reason that says what to do; a cancelled one leaves no process."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from services.trainer.errors import TrainingCrashed
from services.trainer.launch.child import run_phase
from services.trainer.run_config import Failure, RunConfig, load
from shared.contracts import TrainSpec
from shared.errors import InvalidInput, Unavailable
from shared.store import Store
from tests.polling import async_wait_until
from tests.processes import command_line
from tests.services.trainer.leveler.test_distributed import by_two
from tests.services.trainer.resumption import step_of
from tests.services.trainer.small_set import run_config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SPEC = TrainSpec(batch_size=4, max_steps=4)
LONG = TrainSpec(batch_size=4, max_steps=100_000, learning_rate=2e-3, save_every_steps=5)
FAULT = """
import os, torch
def backward(self, *_, **__):
    {fault}
torch.Tensor.backward = backward
"""
OUT_OF_MEMORY = 'raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB.")'
NCCL = 'raise torch.distributed.DistBackendError("NCCL error in: ProcessGroupNCCL.cpp:1025, remote process exited")'
KILLED = 'os.write(2, b"the last words\\n"); os.kill(os.getpid(), 9)'


async def nothing() -> None:
    return None


async def end_by(config: RunConfig, fault: str, folder: Path) -> None:
    """Train in a real child whose first backward pass does ``fault``."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(FAULT.format(fault=fault))
    paths = [str(folder), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    await run_phase(config, "train", nothing, {"PYTHONPATH": os.pathsep.join(paths)})


def processes_of(config: RunConfig) -> list[int]:
    """Ids of the processes that work in the run's folder."""
    running = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [pid for pid in running if str(config.folder) in command_line(pid)]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (OUT_OF_MEMORY, "the GPU ran out of memory.*train.batch_size.*gradient_checkpointing.*OutOfMemoryError: CUDA"),
        (NCCL, "lost each other.*DistBackendError: NCCL error"),
        ('{}["loss"]', "unexpected.*traceback.*KeyError: 'loss'"),
    ],
    ids=["out of memory", "nccl", "other"],
)
async def test_an_error_that_is_not_ours_is_named_with_what_to_do(
    fault: str, words: str, tmp_path: Path, small_set: Store, tiny_student: Path
) -> None:
    with pytest.raises(Unavailable, match=f"Step 'train' failed.*{words}"):
        await end_by(run_config(tmp_path, tiny_student, SPEC), fault, tmp_path / "fault")


async def test_a_killed_process_is_named_with_its_last_lines(
    tmp_path: Path, small_set: Store, tiny_student: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TrainingCrashed, match=r"(?s)signal 9 \(SIGKILL\).*kernel.*train.batch_size.*the last words"):
        await end_by(run_config(tmp_path, tiny_student, SPEC), KILLED, tmp_path / "fault")
    assert "the last words" in capfd.readouterr().err, "the child's output is no longer in the trainer's log"


async def test_a_launchers_killed_process_is_named_too(tmp_path: Path, small_set: Store, tiny_student: Path) -> None:
    with pytest.raises(TrainingCrashed, match=r"(?s)signal 9 \(SIGKILL\).*kernel"):
        await end_by(by_two(run_config(tmp_path, tiny_student, SPEC)), KILLED, tmp_path / "fault")


async def test_a_process_that_cannot_start_is_named_with_its_last_lines(
    tmp_path: Path, small_set: Store, tiny_student: Path
) -> None:
    config = run_config(tmp_path, tiny_student, SPEC)
    with pytest.raises(TrainingCrashed, match=r"(?s)exited with code 1 and left no error report.*log_level.*'loud'"):
        await run_phase(config, "train", nothing, {"MPA_LOG_LEVEL": "loud"})


async def test_cancelling_the_watch_kills_the_child(tmp_path: Path, small_set: Store, tiny_student: Path) -> None:
    config = run_config(tmp_path, tiny_student, LONG)

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


async def test_a_child_that_dies_without_a_word_is_a_crash(
    tmp_path: Path, small_set: Store, tiny_student: Path
) -> None:
    config = run_config(tmp_path, tiny_student, LONG)

    async def watch() -> None:
        if step_of(config) >= 1:
            for pid in processes_of(config):
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(TrainingCrashed, match="signal 9"):
        await run_phase(config, "train", watch, {})
