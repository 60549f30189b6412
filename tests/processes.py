"""Find real processes through /proc, for tests that kill them."""

from __future__ import annotations

from pathlib import Path


def descendants(pid: int) -> list[int]:
    """All living descendants of ``pid``."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(text.rsplit(")", 1)[1].split()[1])
    found: list[int] = []
    frontier = {pid}
    while frontier:
        frontier = {child for child, parent in parents.items() if parent in frontier} - set(found)
        found += sorted(frontier)
    return found


def group_members(group: int) -> list[int]:
    """The processes of a process group that still run; zombies don't count."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] not in "ZX":
            found.append(int(stat.parent.name))
    return sorted(found)


def command_line(pid: int) -> str:
    """The command line of a process, empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def find_descendant(pid: int, words: str) -> int:
    """The first descendant whose command line contains ``words``."""
    for child in descendants(pid):
        if words in command_line(child):
            return child
    raise AssertionError(f"no descendant of {pid} runs {words!r}")
