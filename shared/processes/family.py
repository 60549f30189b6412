"""Process groups and descendants: what must be gone when a child is gone."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable

from psutil import STATUS_DEAD, STATUS_ZOMBIE, NoSuchProcess, Process, process_iter

# psutil compares processes by id and start time, so a reused id is never mistaken for the process that had it.


def identify(pid: int) -> Process | None:
    """The process that has this id now; None if there is none."""
    with contextlib.suppress(NoSuchProcess):
        return Process(pid)
    return None


def descendants(pid: int) -> set[Process]:
    """All descendants of ``pid`` that run now, including those that left its process group."""
    process = identify(pid)
    if process is not None:
        with contextlib.suppress(NoSuchProcess):
            return living(process.children(recursive=True))
    return set()


def group_members(group: int) -> set[Process]:
    """All processes of a group that run now, including those whose parent has ended."""
    return {process for process in process_iter() if _group_of(process.pid) == group and _runs(process)}


def living(processes: Iterable[Process]) -> set[Process]:
    """Those that still run; a zombie counts as gone."""
    return {process for process in processes if _runs(process)}


def kill(processes: Iterable[Process]) -> None:
    """SIGKILL those that still run."""
    for process in living(processes):
        with contextlib.suppress(NoSuchProcess):
            process.kill()


def signal_group(group: int, signum: signal.Signals) -> None:
    """Signal a whole process group, if any process is left in it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signum)


def _group_of(pid: int) -> int | None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        return os.getpgid(pid)
    return None


def _runs(process: Process) -> bool:
    try:
        return process.is_running() and process.status() not in (STATUS_ZOMBIE, STATUS_DEAD)
    except NoSuchProcess:
        return False
