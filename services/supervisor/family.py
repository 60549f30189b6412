"""Process groups and descendants: what has to be gone when a service is gone."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class Member:
    """A process by id and start time (clock ticks since boot), so that a reused id is never mistaken for it."""

    pid: int
    started: int


def descendants(pid: int) -> set[Member]:
    """All living descendants of ``pid``, also those that left its process group. Empty where there is no /proc."""
    children: dict[int, list[Member]] = {}
    for folder in PROC.glob("[0-9]*"):
        found = _stat(int(folder.name))
        if found is not None:
            parent, started = found
            children.setdefault(parent, []).append(Member(int(folder.name), started))
    result: set[Member] = set()
    frontier = [pid]
    while frontier:
        for member in children.get(frontier.pop(), []):
            result.add(member)
            frontier.append(member.pid)
    return result


def identify(pid: int) -> Member | None:
    """The process that has this id now."""
    found = _stat(pid)
    return None if found is None else Member(pid, found[1])


def living(members: Iterable[Member]) -> set[Member]:
    """Those that still run; a zombie counts as gone."""
    return {member for member in members if (found := _stat(member.pid)) is not None and found[1] == member.started}


def signal_group(group: int, signum: signal.Signals) -> None:
    """Signal a whole process group, if anybody is left in it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signum)


def kill(members: Iterable[Member]) -> None:
    """SIGKILL those that still run."""
    for member in living(members):
        with contextlib.suppress(ProcessLookupError):
            os.kill(member.pid, signal.SIGKILL)


def _stat(pid: int) -> tuple[int, int] | None:
    """Parent and start time of a living process; None if it is gone or a zombie."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = text.rsplit(")", 1)[1].split()  # the name before it may hold spaces and brackets
    return None if fields[0] in "ZX" else (int(fields[1]), int(fields[19]))
