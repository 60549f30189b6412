"""Descendants and groups of a process: found wherever they moved, and gone when they are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from shared.processes.family import descendants, group_members, identify, kill, living, signal_group
from tests.polling import wait_until

PARENT = """
import subprocess, sys, threading
line = [sys.executable, "-c", "import threading; threading.Event().wait()"]
subprocess.Popen(line)
subprocess.Popen(line, start_new_session=True)
print("started", flush=True)
threading.Event().wait()
"""


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own with two children, one of which left the group."""
    process = subprocess.Popen([sys.executable, "-c", PARENT], start_new_session=True, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"started\n"
    yield process
    kill(descendants(process.pid))
    process.kill()
    process.wait()
    process.stdout.close()


def test_descendants_are_found_outside_the_group_too(parent: subprocess.Popen[bytes]) -> None:
    children = descendants(parent.pid)
    assert len(children) == 2
    own = identify(parent.pid)
    assert own is not None
    assert group_members(parent.pid) == {own, *(one for one in children if os.getpgid(one.pid) == parent.pid)}
    assert len(group_members(parent.pid)) == 2


def test_what_was_killed_no_longer_lives(parent: subprocess.Popen[bytes]) -> None:
    family = descendants(parent.pid)
    kill(family)
    wait_until(lambda: not living(family))
    kill(family)
    own = identify(parent.pid)
    assert own is not None
    assert living({own, *family}) == {own}


def test_a_signal_reaches_the_whole_group(parent: subprocess.Popen[bytes]) -> None:
    members = group_members(parent.pid)
    signal_group(parent.pid, signal.SIGKILL)
    wait_until(lambda: not living(members))
    parent.wait(10)
    assert group_members(parent.pid) == set()
    signal_group(parent.pid, signal.SIGKILL)


def test_a_zombie_counts_as_gone() -> None:
    child = subprocess.Popen(["true"])
    found = identify(child.pid)
    assert found is not None
    wait_until(lambda: not living([found]))
    child.wait()
    assert identify(child.pid) is None
    assert descendants(child.pid) == set()
