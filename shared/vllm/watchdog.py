"""A tiny process that ends a model server whose service was killed with -9. It needs nothing but the standard library.

``python watchdog.py GROUP GRACE FOLDER`` reads standard input until its other end closes, which is when the service
ends in any way. The kernel has sent the server a SIGTERM by then; but a server that is starting may lose it, or end
without its engine process. What is left of the process group after ``GRACE`` seconds is killed, and ``FOLDER``, its
temporary files, deleted.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

POLL_SECONDS = 0.1


class Watchdog:
    """The service's end of the pipe: watches one process group until it is closed."""

    def __init__(self, group: int, grace: float, scratch: Path) -> None:
        """``grace``: seconds from the service's end to SIGKILL; then ``scratch`` is deleted."""
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__)), str(group), str(grace), str(scratch)],
            stdin=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C at the service's terminal is not meant for it
        )

    def close(self) -> None:
        """Let it go; call this when the group is gone."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.kill()
        self._process.wait()


def main(group: int, grace: float, scratch: str) -> None:
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    sys.stdin.read()
    deadline = time.monotonic() + grace
    with contextlib.suppress(ProcessLookupError, PermissionError):
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(POLL_SECONDS)
        os.killpg(group, signal.SIGKILL)
    shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3])
