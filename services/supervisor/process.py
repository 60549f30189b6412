"""One child process in its own process group: spawn, readiness, restart with backoff, log, stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO

from services.supervisor.family import Member, descendants, kill, living, signal_group
from services.supervisor.logbook import LogBook
from services.supervisor.probes import Probe
from services.supervisor.reaper import Reaper
from shared.errors import MPAError

POLL_SECONDS = 0.1
PROBE_EVERY = 0.25
MAX_LINE = 16_384
KILL_SECONDS = 1.0


class NotReady(MPAError):
    """A child did not become ready: it ended again and again, or time ran out."""

    status, slug, title = 503, "not-ready", "A service did not start"


@dataclass(frozen=True)
class ProcessSpec:
    """What to run and how to see that it is ready. ``env`` comes on top of this process's environment.

    Without a ``probe`` (workers serve no HTTP) a process is ready when it has lived ``settle`` seconds.
    """

    name: str
    command: tuple[str, ...]
    probe: Probe | None = None
    settle: float = 0.0
    env: Mapping[str, str] = field(default_factory=dict)
    url: str | None = None


@dataclass(frozen=True)
class RestartPolicy:
    """Waits ``first`` s before a restart, twice as long after each one up to ``longest``, which bounds the rate.

    ``stable`` s of life reset the wait. A child that ends ``tries_to_start`` times before it was ready is given up.
    """

    first: float = 0.5
    longest: float = 15.0
    stable: float = 60.0
    tries_to_start: int = 3


class Child:
    """A supervised process. Use it from one event loop: ``start``, ``wait_ready``, then ``stop``."""

    def __init__(
        self, spec: ProcessSpec, log: LogBook, reaper: Reaper | None = None, policy: RestartPolicy | None = None
    ):
        self.spec = spec
        self.restarts = 0
        self._policy = policy or RestartPolicy()
        self._log = log
        self._reaper = reaper
        self._process: subprocess.Popen[bytes] | None = None
        self._pump: threading.Thread | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._started = 0.0
        self._was_ready = False
        self._failed_starts = 0

    @property
    def pid(self) -> int | None:
        """Of the running process; None between an end and a restart."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Spawn the process and keep it running until ``stop``."""
        self._spawn()
        self._keeper = asyncio.create_task(self._keep_running(), name=f"keep {self.spec.name}")

    async def wait_ready(self, timeout: float) -> None:
        """Return once the child is ready. Raises NotReady after ``timeout`` seconds or if it ends too often before."""
        deadline = time.monotonic() + timeout
        reason: str | None = "has not been asked yet"
        while True:
            if self.pid is not None:
                reason = await self._why_not_ready()
                if reason is None and self.pid is not None:
                    self._was_ready = True
                    return
            if self._failed_starts >= self._policy.tries_to_start:
                raise NotReady(
                    f"{self.spec.name} ended {self._failed_starts} times before it was ready. {self._words()}"
                )
            if time.monotonic() > deadline:
                raise NotReady(f"{self.spec.name} was not ready after {timeout:.0f} s: {reason}. {self._words()}")
            await asyncio.sleep(PROBE_EVERY)

    async def stop(self, timeout: float) -> None:
        """SIGTERM to the process; when it has ended, or after ``timeout`` s, SIGKILL to what is left of its family."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        process = self._process
        if process is None:
            return
        family = descendants(process.pid)
        if process.poll() is None:
            process.terminate()
        deadline = time.monotonic() + timeout
        while process.poll() is None and time.monotonic() < deadline:
            await asyncio.sleep(POLL_SECONDS / 2)
        if process.poll() is None:
            self._say(f"did not stop in {timeout:.0f} s: killing it")
            family |= descendants(process.pid)
        await self._clear(process)
        await _kill(family)

    def kill_now(self) -> None:
        """SIGKILL to the process group, for a user in a hurry; ``stop`` still has to be awaited."""
        if self._process is not None:
            signal_group(self._process.pid, signal.SIGKILL)

    async def _why_not_ready(self) -> str | None:
        if time.monotonic() - self._started < self.spec.settle:
            return "has just started"
        return None if self.spec.probe is None else await self.spec.probe()

    async def _keep_running(self) -> None:
        wait = self._policy.first
        while True:
            process = self._process
            assert process is not None
            while process.poll() is None:
                await asyncio.sleep(POLL_SECONDS)
            await self._clear(process)
            if not self._was_ready:
                self._failed_starts += 1
                if self._failed_starts >= self._policy.tries_to_start:
                    self._say(f"ended with {_exit(process.returncode)} before it was ready; giving up")
                    return
            if time.monotonic() - self._started > self._policy.stable:
                wait = self._policy.first
            self._say(f"ended with {_exit(process.returncode)}; restarting in {wait:.1f} s")
            await asyncio.sleep(wait)
            wait = min(wait * 2, self._policy.longest)
            self.restarts += 1
            self._spawn()

    def _spawn(self) -> None:
        process = subprocess.Popen(
            self.spec.command,
            env={**os.environ, **self.spec.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        if self._reaper is not None:
            self._reaper.watch(process.pid)
        assert process.stdout is not None
        self._process, self._started = process, time.monotonic()
        self._pump = threading.Thread(target=self._pump_log, args=(process.stdout,), daemon=True)
        self._pump.start()

    async def _clear(self, process: subprocess.Popen[bytes]) -> None:
        """Nothing of an ended process may hold its port, its GPU memory or its queue when the next one starts."""
        signal_group(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(
                process.wait, KILL_SECONDS
            )  # one stuck in the kernel (a GPU driver) cannot be waited for
        if self._reaper is not None:
            self._reaper.forget(process.pid)
        if self._pump is not None:
            await asyncio.to_thread(
                self._pump.join, 0.5
            )  # the last words of the child; a grandchild elsewhere may still hold the pipe

    def _pump_log(self, stream: IO[bytes]) -> None:
        while line := stream.readline(MAX_LINE):
            self._log.write(self.spec.name, line.decode(errors="replace").rstrip("\r\n"))

    def _say(self, message: str) -> None:
        self._log.write("supervisor", f"{self.spec.name} {message}")

    def _words(self) -> str:
        lines = self._log.last_lines(self.spec.name)
        return "It said:\n  " + "\n  ".join(lines) if lines else "It said nothing."


async def _kill(family: set[Member]) -> None:
    kill(family)
    deadline = time.monotonic() + KILL_SECONDS
    while living(family) and time.monotonic() < deadline:
        await asyncio.sleep(POLL_SECONDS / 2)


def _exit(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
