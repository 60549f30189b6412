"""A training process works alone in its folder, and ends with the process that started it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from services.trainer.run import lifetime
from services.trainer.run.lifetime import hold_folder
from shared.errors import Unavailable

STUCK = """
import sys, threading
from services.trainer.run.lifetime import end_with_parent
end_with_parent()
print("started", flush=True)
threading.Event().wait()
"""
ENDS = """
import logging
from services.trainer.run.lifetime import end_now
import atexit
atexit.register(print, "not at once")
end_now(7)
"""


def test_a_process_ends_when_its_parent_is_gone() -> None:
    """The parent's end of the pipe closes, however it ended."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", STUCK], stdin=pipe, stdout=pipe) as child:
        assert child.stdin is not None and child.stdout is not None
        assert child.stdout.readline() == b"started\n"
        assert child.poll() is None
        child.stdin.close()
        assert child.wait(20) == 3


def test_a_process_that_ends_now_runs_nothing_more() -> None:
    done = subprocess.run([sys.executable, "-c", ENDS], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (7, b"")


def test_a_folder_has_one_holder_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifetime, "_LOCK_PATIENCE", 0.1)
    folder = tmp_path / "made" / "when missing"
    with hold_folder(folder), pytest.raises(Unavailable, match="Another process trains in"), hold_folder(folder):
        pass
    with hold_folder(folder):
        pass
