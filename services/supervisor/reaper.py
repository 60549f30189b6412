"""A tiny process that outlives a supervisor killed with -9, only to end the services it left behind.

The supervisor writes ``+<pid>`` and ``-<pid>`` lines to the reaper's stdin as children come and go. When the pipe
closes, whatever is still listed gets SIGTERM, and SIGKILL after a grace period, with its group and descendants. The
reaper also holds the data folder's lock (an inherited descriptor), so that no new system starts there meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from services.supervisor.family import Member, descendants, identify, kill, living, signal_group


class Reaper:
    """The supervisor's end of the pipe."""

    def __init__(self, *, grace: float, endpoints_file: Path, lock_fd: int | None = None) -> None:
        """``grace`` seconds lie between SIGTERM and SIGKILL; the endpoints are no longer true after that."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "services.supervisor.reaper", str(grace), str(endpoints_file)],
            stdin=subprocess.PIPE,
            pass_fds=() if lock_fd is None else (lock_fd,),
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def watch(self, pid: int) -> None:
        self._tell(f"+{pid}\n")

    def forget(self, pid: int) -> None:
        self._tell(f"-{pid}\n")

    def close(self) -> None:
        """Let the reaper do what is left to do and end."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # without a reaper the system still works
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()


def main(grace: float, endpoints_file: Path) -> None:
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    watched: dict[int, Member | None] = {}
    for line in sys.stdin:
        pid = int(line[1:])
        if line[0] == "+":
            watched[pid] = identify(pid)
        else:
            watched.pop(pid, None)
    end_all({member for member in watched.values() if member is not None}, grace)
    endpoints_file.unlink(missing_ok=True)


def end_all(leaders: set[Member], grace: float) -> None:
    """SIGTERM to the leaders; when all are gone, or after ``grace`` s, SIGKILL to their groups and descendants."""
    family: set[Member] = set()
    for leader in living(leaders):
        family |= descendants(leader.pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(leader.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while living(leaders) and time.monotonic() < deadline:
        time.sleep(0.1)
    for leader in leaders:
        family |= descendants(leader.pid)
        signal_group(leader.pid, signal.SIGKILL)
    kill(family)


if __name__ == "__main__":
    main(float(sys.argv[1]), Path(sys.argv[2]))
