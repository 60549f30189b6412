"""One supervised service: readiness, restarts with growing delays, log and stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.supervisor.logbook import LogBook
from services.supervisor.probes import Probe
from shared.backoff import Backoff, RestartDelays
from shared.errors import MPAError
from shared.processes.child import Child
from shared.processes.reaper import Reaper

PROBE_EVERY = 0.25
KILL_SECONDS = 1.0
RESTART_BACKOFF = Backoff(0.5, 15.0)


class NotReady(MPAError):
    """A service did not become ready: it ended repeatedly, or time ran out."""

    status, slug, title = 503, "not-ready", "A service did not start"


@dataclass(frozen=True)
class ProcessSpec:
    """What to run and how to tell that it is ready. ``env`` is added to this process's environment.

    Without a ``probe`` (workers serve no HTTP) a process is ready when it has run for ``settle`` seconds.
    """

    name: str
    command: tuple[str, ...]
    probe: Probe | None = None
    settle: float = 0.0
    env: Mapping[str, str] = field(default_factory=dict)
    url: str | None = None


@dataclass(frozen=True)
class RestartPolicy:
    """A run of ``stable`` seconds resets the delay. A service that ends ``tries_to_start`` times before it was ready is
    given up.
    """

    backoff: Backoff = RESTART_BACKOFF
    stable: float = 60.0
    tries_to_start: int = 3


class Service:
    """A supervised process. Use it from one event loop: ``start``, ``wait_ready``, then ``stop``."""

    def __init__(
        self, spec: ProcessSpec, log: LogBook, reaper: Reaper | None = None, policy: RestartPolicy | None = None
    ):
        self.spec = spec
        self.restarts = 0
        self._policy = policy or RestartPolicy()
        self._log = log
        self._reaper = reaper
        self._child: Child | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._was_ready = False
        self._failed_starts = 0

    @property
    def pid(self) -> int | None:
        """Of the running process; None between an end and a restart."""
        return self._child.pid if self._child is not None and self._child.running else None

    def start(self) -> None:
        """Start the process and keep it running until ``stop``."""
        child = self._spawn()
        self._keeper = asyncio.create_task(self._keep_running(child), name=f"keep {self.spec.name}")

    async def wait_ready(self, timeout: float) -> None:
        """Return once it is ready. Raises NotReady after ``timeout`` seconds, or if it ends too often before."""
        deadline = time.monotonic() + timeout
        reason: str | None = "it has not been asked yet"
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
        """SIGTERM; when the process has ended, or after ``timeout`` s, SIGKILL to what is left of its family."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        if self._child is not None and not await self._child.stop(timeout, KILL_SECONDS):
            self._say(f"did not stop in {timeout:.0f} s and was killed")

    def kill_now(self) -> None:
        """SIGKILL to the process group, for a user in a hurry; ``stop`` still has to be awaited."""
        if self._child is not None:
            self._child.kill()

    async def _why_not_ready(self) -> str | None:
        if self._child is not None and self._child.age < self.spec.settle:
            return "it has just started"
        return None if self.spec.probe is None else await self.spec.probe()

    async def _keep_running(self, child: Child) -> None:
        delays = RestartDelays(self._policy.backoff, self._policy.stable)
        while True:
            await child.wait()
            lived = child.age
            # Nothing of an ended process may hold its port, GPU memory or queue when the next one starts.
            await child.stop(0.0, KILL_SECONDS)
            if not self._was_ready:
                self._failed_starts += 1
                if self._failed_starts >= self._policy.tries_to_start:
                    self._say(f"{child.ending} before it was ready; giving up")
                    return
            delay = delays.after_run(lived)
            self._say(f"{child.ending}; restarting in {delay:.1f} s")
            await asyncio.sleep(delay)
            self.restarts += 1
            child = self._spawn()

    def _spawn(self) -> Child:
        self._child = Child(self.spec.command, {**os.environ, **self.spec.env}, self._write, self._reaper)
        return self._child

    def _write(self, line: bytes) -> None:
        self._log.write(self.spec.name, line.decode(errors="replace").rstrip("\r\n"))

    def _say(self, message: str) -> None:
        self._log.write("supervisor", f"{self.spec.name} {message}")

    def _words(self) -> str:
        lines = self._log.last_lines(self.spec.name)
        return "Its last lines were:\n  " + "\n  ".join(lines) if lines else "It wrote nothing."
