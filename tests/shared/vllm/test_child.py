"""A model server that ignores SIGTERM, with a process of its own, below a parent that is killed with -9."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.vllm.child import ServerProcess
from tests.polling import wait_until
from tests.processes import descendants
from tests.services.teacher.small import gone

pytestmark = pytest.mark.slow  # starts and kills real processes
STUBBORN = """
import signal, subprocess, sys, tempfile, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
engine = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
note = tempfile.mkstemp()[1]
open(sys.argv[1], "w").write(f"{engine.pid} {note}")
time.sleep(600)
"""
PARENT = """
import os, sys, time
from shared.vllm.child import ServerProcess
ServerProcess([sys.executable, "-c", sys.argv[1], sys.argv[2]], os.environ)
time.sleep(600)
"""


def noted(note: Path) -> tuple[int, Path]:
    """The engine's process, and a file that the server made in its folder for temporary files."""
    pid, file = wait_until(lambda: note.exists() and note.read_text(), 30).split()
    assert Path(file).exists() and Path(file).parent.name.startswith("mpa-server-")
    return int(pid), Path(file)


def test_a_server_that_ignores_sigterm_dies_with_its_killed_service(tmp_path: Path) -> None:
    note = tmp_path / "engine"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, STUBBORN, str(note)])
    try:
        _, file = noted(note)
        family = descendants(parent.pid)
        assert len(family) == 3  # server, engine and reaper
    finally:
        parent.kill()
        parent.wait(10)
    wait_until(lambda: all(gone(pid) for pid in family), 30)
    assert not file.parent.exists()


async def test_stopping_ends_the_group_and_the_reaper(tmp_path: Path) -> None:
    note = tmp_path / "engine"
    before = descendants(os.getpid())
    process = ServerProcess([sys.executable, "-c", STUBBORN, str(note)], os.environ)
    engine, file = noted(note)
    await process.stop(0.2)
    assert not file.parent.exists()
    assert gone(engine) and not process.running
    wait_until(lambda: not {p for p in descendants(os.getpid()) if not gone(p)} - set(before))
