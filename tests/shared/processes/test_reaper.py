"""The reaper ends what a killed parent leaves behind, and only that."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.processes.reaper import Reaper
from tests.polling import wait_until
from tests.services.supervisor.small import gone


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    yield process
    process.kill()
    process.wait(10)


def test_it_ends_what_is_listed_and_deletes_what_is_no_longer_valid(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    file, folder = tmp_path / "endpoints.json", tmp_path / "scratch"
    file.touch()
    folder.mkdir()
    reaper = Reaper(grace=5.0, delete=[file, folder, tmp_path / "never made"])
    reaper.watch(sleeper.pid)
    reaper.close()
    assert sleeper.wait(10) == -signal.SIGTERM
    assert not list(tmp_path.iterdir())


def test_it_leaves_a_process_that_it_was_told_to_forget(sleeper: subprocess.Popen[bytes]) -> None:
    reaper = Reaper(grace=0.0)
    reaper.watch(sleeper.pid)
    reaper.forget(sleeper.pid)
    reaper.close()
    assert sleeper.poll() is None


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signals_for_its_parent_do_not_end_it(signum: signal.Signals) -> None:
    reaper = Reaper(grace=60.0)
    wait_until(lambda: _ignores(reaper.pid, signum))
    os.kill(reaper.pid, signum)
    assert not gone(reaper.pid)
    reaper.close()
    assert gone(reaper.pid)


def _ignores(pid: int, signum: signal.Signals) -> bool:
    (line,) = (x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("SigIgn:"))
    return bool(int(line.split()[1], 16) >> (signum - 1) & 1)
