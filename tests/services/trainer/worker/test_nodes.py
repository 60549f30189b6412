"""A job's training on two machines: two agents of torchrun that share the store, Redis and a rendezvous, no more."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from services.trainer.launch.rendezvous import Place, Together
from services.trainer.run.train import run_training
from services.trainer.run_config import last_progress, read_progress
from services.trainer.worker.flow import TrainingFlow
from services.trainer.worker.nodes import check_nodes
from shared.checkpoints import CheckpointRegistry
from shared.contracts import GateSpec, JobState, Outcome, TrainSpec
from shared.errors import InvalidInput
from shared.settings import TrainerSettings
from shared.store import Store
from tests.polling import async_wait_until
from tests.processes import descendants
from tests.services.trainer.played_job import PlayedJob
from tests.services.trainer.resumption import check_resumed, saved_progress
from tests.services.trainer.small_set import TASKS_FILE, job_spec, run_config

SPEC = TrainSpec(batch_size=8, max_steps=12, learning_rate=3e-3, save_every_steps=4, warmup_fraction=0.0)
Machine = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture
def machine(
    settings: TrainerSettings, registry: CheckpointRegistry, tmp_path: Path, free_port: int
) -> Iterator[Machine]:
    """Starts one, as a pod of the Job does: torchrun, and what it runs. The first is where the others meet: by their
    names on a cluster, here by order, for they all have one name.
    """
    started: list[subprocess.Popen[bytes]] = []
    line = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--max-restarts=0"]
    line += ["--rdzv-backend=c10d", "--rdzv-id=test", f"--rdzv-endpoint=127.0.0.1:{free_port}"]
    line += ["--local-addr=127.0.0.1"]
    environment = {
        **os.environ,
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "MPA_REDIS_URL": settings.redis_url,
        "MPA_STORE": settings.store_url,
        "MPA_DATA_DIR": str(tmp_path),
        "MPA_TASKS_FILE": str(TASKS_FILE),
        "MPA_STUDENT_URL": settings.student_url,
        "MPA_TRAIN_DEVICE": "cpu",
        "MPA_TRAIN_THREADS": "1",
        "MPA_LEASE": "5",
    }

    def start() -> subprocess.Popen[bytes]:
        command = [*line, f"--rdzv-conf=is_host={int(not started)}", "-m", "services.trainer.nodes", "j1"]
        started.append(subprocess.Popen(command, env=environment, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """All of a machine at once, as when its power goes."""
    for pid in [process.pid, *descendants(process.pid)]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


async def trained(job: PlayedJob, spec: TrainSpec) -> Path:
    """The job, ready to be trained; its progress file."""
    await job.submit(job_spec(spec, gate=GateSpec(promote=False)))
    await job.jobs.transition("j1", JobState.COLLECTING, JobState.TRAINING)
    folder = job.store.local_path("training/j1")
    assert folder is not None
    return folder / "progress.jsonl"


def losses(file: Path) -> list[float]:
    return [line.loss for line in read_progress(file)]


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_two_machines_train_as_one_process_would(
    job: PlayedJob, small_set: Store, tiny_student: Path, tmp_path: Path, machine: Machine
) -> None:
    progress = await trained(job, SPEC)
    machines = [machine(), machine()]
    codes = [await asyncio.to_thread(one.wait, 200) for one in machines]
    status = await job.status()
    assert codes == [0, 0], status.last_error
    assert (status.state, status.outcome) == (JobState.SUCCEEDED, Outcome.KEPT), status.last_error
    # Only a process that has the other half of each batch can have these losses.
    halves = SPEC.model_copy(update={"batch_size": 4, "gradient_accumulation": 2})
    alone = run_config(tmp_path, tiny_student, halves, folder="alone")
    run_training(alone)
    assert losses(progress) == pytest.approx(losses(alone.progress_file), rel=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_machine_that_is_lost_is_replaced(job: PlayedJob, small_set: Store, machine: Machine) -> None:
    spec = SPEC.model_copy(update={"max_steps": 60})
    progress = await trained(job, spec)
    first, lost = machine(), machine()

    async def going() -> bool:
        line = last_progress(progress)
        return line is not None and line.step >= 6

    await async_wait_until(going, timeout=120)
    kill(lost)
    kept = saved_progress(progress.parent)
    machine()
    assert await asyncio.to_thread(first.wait, 200) == 0
    status = await job.status()
    assert status.state == JobState.SUCCEEDED, status.last_error
    check_resumed(progress.parent, kept, 60)


def test_machines_need_one_folder_and_one_launcher(tmp_path: Path) -> None:
    check_nodes(TrainerSettings(store=tmp_path.as_uri()))
    with pytest.raises(InvalidInput, match="file://"):
        check_nodes(TrainerSettings(store="memory://somewhere"))
    with pytest.raises(InvalidInput, match="MPA_TRAIN_ACCELERATE_CONFIG"):
        check_nodes(TrainerSettings(store=tmp_path.as_uri(), train_accelerate_config=tmp_path / "ddp.yaml"))


async def test_a_batch_needs_a_sample_for_every_process(job: PlayedJob, small_set: Store, free_port: int) -> None:
    await trained(job, SPEC.model_copy(update={"batch_size": 2}))
    together = Together(Place(0, 3, 0, 1, "127.0.0.1", free_port))
    await TrainingFlow(job.settings, job.store, job.jobs, "w1", together=together).run("j1")
    status = await job.status()
    assert status.state == JobState.FAILED
    assert status.last_error is not None and "torchrun started 3 processes" in status.last_error
