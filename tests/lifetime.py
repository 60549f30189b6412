"""Child processes that do not outlive their parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1


def die_with_parent(signum: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """A ``preexec_fn`` for subprocess.Popen: the kernel sends ``signum`` to the child when its parent dies, in any way.

    The kernel watches the *thread* that started the child: start it from one that lives as long as the process.
    Linux only; elsewhere the child is not bound to its parent.
    """
    parent = os.getpid()
    if not sys.platform.startswith("linux"):
        return lambda: None
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up before the fork: afterwards only system calls are safe

    def bind() -> None:
        prctl(PR_SET_PDEATHSIG, int(signum), 0, 0, 0)
        if os.getppid() != parent:  # it died before the call above could see it
            os.kill(os.getpid(), signum)

    return bind
