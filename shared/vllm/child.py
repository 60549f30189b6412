"""One run of a model server as a child process: its group, its log, its temporary files, its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from shared.processes import die_with_parent
from shared.vllm.watchdog import Watchdog

MAX_LINE = 16_384
POLL_SECONDS = 0.1
ORPHAN_GRACE = 3.0
_LEVEL = re.compile(r"\b(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

log = logging.getLogger("vllm")


class ModelProcess:
    """A started child in a process group of its own, with a folder of its own for temporary files, which goes with it.

    Start it from the main thread: its life is bound to that.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        # A server that is killed leaves its sockets and rendezvous files behind.
        self._scratch = Path(tempfile.mkdtemp(prefix="mpa-server-"))
        # SIGTERM, not SIGKILL, when this process dies: the server then takes its engine process with it.
        try:
            self._process = subprocess.Popen(
                list(command),
                env={**env, "TMPDIR": str(self._scratch)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGTERM),
            )
        except OSError:
            self._scratch.rmdir()
            raise
        assert self._process.stdout is not None
        self._watchdog = Watchdog(self._process.pid, ORPHAN_GRACE, self._scratch)
        self._pump = threading.Thread(target=_forward, args=(self._process.stdout,), daemon=True)
        self._pump.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        code = self._process.poll()
        if code is None:
            return "is running"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    async def wait(self) -> None:
        while self.running:
            await asyncio.sleep(POLL_SECONDS)

    async def stop(self, term_seconds: float) -> None:
        """SIGTERM to the server, SIGKILL to its whole group after ``term_seconds``; returns when the group is gone."""
        if self.running and term_seconds > 0:
            self._process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(term_seconds):
                    await self.wait()
        self.kill()
        with contextlib.suppress(TimeoutError):  # what is stuck in the kernel (a GPU driver) cannot be waited for
            async with asyncio.timeout(5.0):
                await self._group_gone()
        await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)
        self._watchdog.close()
        await asyncio.to_thread(self._pump.join, 0.5)

    def kill(self) -> None:
        """SIGKILL to the group: the engine process must not survive its server and hold memory or a GPU."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def _group_gone(self) -> None:
        while self.running or _exists(self._process.pid):
            await asyncio.sleep(POLL_SECONDS / 5)


def _exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _forward(stream: IO[bytes]) -> None:
    """Log the child's lines at the level that they name."""
    levels, level = logging.getLevelNamesMapping(), logging.INFO
    while line := stream.readline(MAX_LINE):
        text = _COLOURS.sub("", line.decode(errors="replace")).rstrip()
        found = _LEVEL.search(text[:60])
        level = levels[found.group(1)] if found else level
        if text:
            log.log(level, "%s", text)


class Backoff:
    """Waits that double from ``first`` to ``longest`` s, and start anew after a run of ``stable`` s."""

    def __init__(self, first: float, longest: float, stable: float) -> None:
        self._first, self._longest, self._stable = first, longest, stable
        self._next = first
        self._began = time.monotonic()

    def run_begins(self) -> None:
        self._began = time.monotonic()

    def wait_after_run(self) -> float:
        if time.monotonic() - self._began > self._stable:
            self._next = self._first
        wait, self._next = self._next, min(self._next * 2, self._longest)
        return wait
