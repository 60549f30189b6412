"""A tiny process that outlives a parent killed with -9, only to end the children that the parent left behind.

The parent writes ``+<pid>`` and ``-<pid>`` lines to the reaper's standard input as children come and go. When the pipe
closes, the children still listed get SIGTERM. After a grace period, their groups and descendants get SIGKILL, and the
files and folders that are no longer valid are deleted.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from psutil import Process

from shared.processes.family import descendants, identify, kill, living, signal_group

POLL_SECONDS = 0.1


class Reaper:
    """The parent's end of the pipe."""

    def __init__(self, *, grace: float, delete: Sequence[Path] = (), lock_fd: int | None = None) -> None:
        """``grace``: seconds between SIGTERM and SIGKILL. ``delete``: what to delete at the end. The reaper also
        inherits ``lock_fd``, so that a lock is held until it has finished.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-m", "shared.processes.reaper", str(grace), *map(str, delete)],
            stdin=subprocess.PIPE,
            pass_fds=() if lock_fd is None else (lock_fd,),
            start_new_session=True,  # a Ctrl-C at the parent's terminal is not meant for it
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def watch(self, pid: int) -> None:
        self._tell(f"+{pid}\n")

    def forget(self, pid: int) -> None:
        self._tell(f"-{pid}\n")

    def close(self) -> None:
        """Let the reaper end what is still listed, delete what is to be deleted, and end itself."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # the children still run if the reaper has died
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()


def main(grace: float, delete: Sequence[Path]) -> None:
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    watched: dict[int, Process | None] = {}
    for line in sys.stdin:
        pid = int(line[1:])
        if line[0] == "+":
            watched[pid] = identify(pid)
        else:
            watched.pop(pid, None)
    end_all({process for process in watched.values() if process is not None}, grace)
    for path in delete:
        with contextlib.suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def end_all(leaders: set[Process], grace: float) -> None:
    """SIGTERM to the leaders; when all are gone, or after ``grace`` s, SIGKILL to their groups and descendants."""
    family: set[Process] = set()
    for leader in living(leaders):
        family |= descendants(leader.pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(leader.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while living(leaders) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    for leader in leaders:
        family |= descendants(leader.pid)
        signal_group(leader.pid, signal.SIGKILL)
    kill(family)


if __name__ == "__main__":
    main(float(sys.argv[1]), [Path(path) for path in sys.argv[2:]])
