"""One real system for the end-to-end and fault tests: Redis, vLLM teacher, student, parity service, trainer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.driver.system import System, start
from shared.client import ParityClient, StudentClient
from shared.contracts import JobStatus
from tests.e2e.jobs import IMAGES, QUIET, finish, small_job


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("system")


@pytest.fixture(scope="session")
def pile(data_dir: Path) -> Path:
    """An unlabeled pile; the manifest lies in it."""
    return draw(data_dir / "pile", IMAGES, split="train", seed=91)


@pytest.fixture(scope="session")
def labelled(data_dir: Path) -> Path:
    """A labelled benchmark on other images."""
    return draw(data_dir / "test", 24, "--labelled", split="dev", seed=92)


@pytest.fixture(scope="session")
def system(data_dir: Path, pile: Path, labelled: Path) -> Iterator[System]:
    """The system with the demo pair, on free ports, stopped at the end."""
    running = start(data_dir, {"MPA_ATTENTION_PROBE": "true"})
    yield running
    running.stop()


@pytest.fixture(scope="session")
def calm_jobs() -> dict[str, JobStatus]:
    """Undisturbed jobs by the checkpoint that served meanwhile."""
    return {}


@pytest.fixture
async def calm(system: System, pile: Path, calm_jobs: dict[str, JobStatus]) -> JobStatus:
    """A small job over the pile, finished while nobody disturbed it; its candidate is not promoted.

    The tests share it, as long as the same checkpoint serves.
    """
    async with StudentClient(system.endpoints["student"], model="student") as student:
        serving = (await student.checkpoints()).active
    if serving not in calm_jobs:
        async with ParityClient(system.endpoints["parity"]) as client:
            job = await client.submit(small_job(pile, gate=QUIET, name="calm"))
            calm_jobs[serving] = await finish(client, job)
    return calm_jobs[serving]


def draw(folder: Path, images: int, *options: str, split: str, seed: int) -> Path:
    command = [sys.executable, "-m", "demo.world", "--out", str(folder), "--images", str(images)]
    command += ["--seed", str(seed), "--split", split, *options]
    subprocess.run(command, check=True, timeout=120)
    return folder
