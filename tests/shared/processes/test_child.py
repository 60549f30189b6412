"""One real child process: its output, its end, and the end of its whole family."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.processes.child import Child
from tests.polling import async_wait_until, wait_until
from tests.services.supervisor.small import gone

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(600)
"""
# One child in the same group and one in a session of its own; their parent prints their ids.
FAMILY = """
import subprocess, sys, time
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
print(subprocess.Popen(sleep).pid, subprocess.Popen(sleep, start_new_session=True).pid, flush=True)
time.sleep(600)
"""
WAITS_FOR_INPUT = "import sys; print('up', flush=True); sys.stdin.read()"
PARENT = """
import os, sys, time
from shared.processes.child import Child
child = Child([sys.executable, "-c", sys.argv[1]], os.environ)
print(child.pid, flush=True)
time.sleep(600)
"""


def start(code: str) -> Child:
    return Child([sys.executable, "-c", code], os.environ)


async def first_line(child: Child) -> str:
    async def spoke() -> list[str]:
        return child.last_lines()

    return (await async_wait_until(spoke))[0]


async def test_its_lines_are_handed_on_and_its_last_ones_kept() -> None:
    seen: list[bytes] = []
    code = "import sys; print('to stdout', flush=True); sys.exit('to stderr')"
    child = Child([sys.executable, "-c", code], os.environ, seen.append)
    await child.wait()
    assert await child.stop(5.0)
    assert seen == [b"to stdout\n", b"to stderr\n"]
    assert child.last_lines() == ["to stdout", "to stderr"]
    assert (child.exit_code, child.ending) == (1, "exited with code 1")


async def test_a_child_that_ignores_sigterm_is_killed_in_time() -> None:
    child = start(STUBBORN)
    await first_line(child)
    started = time.monotonic()
    assert not await child.stop(0.3)
    assert 0.3 <= time.monotonic() - started < 5
    assert (child.exit_code, child.ending) == (-9, "was killed by signal 9 (SIGKILL)")


async def test_its_group_and_its_descendants_end_with_it() -> None:
    child = start(FAMILY)
    family = [int(pid) for pid in (await first_line(child)).split()]
    assert not any(gone(pid) for pid in family)
    assert await child.stop(5.0)
    assert all(gone(pid) for pid in family)


async def test_orphans_in_its_group_end_too() -> None:
    child = start(FAMILY)
    same_group, other_session = (int(pid) for pid in (await first_line(child)).split())
    try:
        os.kill(child.pid, 9)
        await child.wait()
        assert not gone(same_group)
        await child.stop(5.0)
        assert gone(same_group)
    finally:
        os.kill(other_session, 9)  # nothing ties it to the child any more


def test_without_a_reaper_its_input_closes_when_its_parent_is_killed() -> None:
    command = [sys.executable, "-c", PARENT, WAITS_FOR_INPUT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    wait_until(lambda: gone(pid))


def test_a_command_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Child([str(tmp_path / "nothing")], os.environ)
