"""Keeps one model server running: it is ready when it answers real requests, and restarted when it dies or hangs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from shared.backoff import Backoff, RestartDelays
from shared.processes.ports import free_port
from shared.vllm.child import ServerProcess
from shared.vllm.probing import probe_body, reads_escapes, why_no_answer, why_unhealthy

RESTART_BACKOFF = Backoff(0.5, 30.0)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerTimes:
    """Times in seconds. A server is restarted after ``failures`` failed probes in a row, one every ``watch_every`` s.

    ``idle``: a server that answered a request within this time needs no probe. ``probe``: the time limit of a probe,
    generous because a busy CPU is slow. ``stop``: from SIGTERM to SIGKILL; requests have been drained before.
    """

    ready: float = 300.0
    poll: float = 0.5
    watch_every: float = 5.0
    idle: float = 10.0
    probe: float = 20.0
    failures: int = 3
    backoff: Backoff = RESTART_BACKOFF
    stable: float = 120.0
    stop: float = 3.0


class ModelServer:
    """Starts ``command(port)`` and keeps it running from ``start`` to ``stop``."""

    def __init__(
        self,
        command: Callable[[int], Sequence[str]],
        env: Mapping[str, str],
        model: str,
        patience: ServerTimes | None = None,
        prepare: Callable[[], Awaitable[str | None]] | None = None,
    ) -> None:
        """``prepare`` runs at each start, when the server answers and before it is ready. It returns what went wrong in
        words, or None.
        """
        self.ready = False
        self.reason = "The model server has not been started."
        self.restarts = 0
        self.base_url = ""
        self.reads_escapes = False
        """Whether texts may be sent with escapes (shared/escapes.py)."""
        self._command = command
        self._env = env
        self._model, self._body = model, probe_body(model)
        self._patience = patience or ServerTimes()
        self._prepare = prepare
        self._http = httpx.AsyncClient(limits=httpx.Limits(max_keepalive_connections=0), trust_env=False)
        self._process: ServerProcess | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._last_answer = 0.0
        self._doubt = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """The id of the running server's process; None between an end and a restart."""
        return self._process.pid if self._process is not None and self._process.running else None

    @property
    def details(self) -> dict[str, Any]:
        return {"pid": self.pid, "restarts": self.restarts}

    async def start(self) -> None:
        self._keeper = asyncio.create_task(self._keep_running(), name="keep the model server running")

    async def stop(self) -> None:
        """End the server and its whole process group."""
        self._not_ready("The service is shutting down.")
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        if self._process is not None:
            await self._process.stop(self._patience.stop)
        await self._http.aclose()

    async def restart(self, why: str) -> None:
        """End the running server, so that it is started again."""
        self._not_ready(f"The model server {why}; it is being restarted: ask again.")
        if self._process is not None:
            self._process.kill()

    def saw_answer(self) -> None:
        """A request was answered: no probe is needed for a while."""
        self._last_answer = time.monotonic()

    def saw_failure(self) -> None:
        """A request failed in a way that healthy servers don't: probe now."""
        self._last_answer = 0.0
        self._doubt.set()

    async def _keep_running(self) -> None:
        delays = RestartDelays(self._patience.backoff, self._patience.stable)
        while True:
            started = time.monotonic()
            trouble = await self._run_once()
            delay = delays.after_run(time.monotonic() - started)
            self._not_ready(f"The model server {trouble}; it is being restarted: ask again.")
            log.error("The model server %s; restarting it in %.1f s", trouble, delay)
            if self._process is not None:
                await self._process.stop(0.0)
            await asyncio.sleep(delay)
            self.restarts += 1

    async def _run_once(self) -> str:
        """Start the server, watch it, and return in words what went wrong. The server may still be running then."""
        port = free_port()
        command = self._command(port)
        self.base_url = f"http://127.0.0.1:{port}"
        self._not_ready("The model server is starting.")
        log.info("Starting the model server: %s", " ".join(command))
        try:
            self._process = ServerProcess(command, self._env)
        except OSError as error:
            self._process = None
            return f"cannot be started ({error})"
        trouble = await self._until_ready(self._process)
        if trouble is None:
            self.reads_escapes = await reads_escapes(self._http, self.base_url, self._model, self._patience.probe)
            if not self.reads_escapes:
                log.warning("The model server's tokenizer does not read escapes: special tokens in texts stay special")
        if trouble is None and self._prepare is not None:
            trouble = await self._unless_it_ends(self._process, self._prepare())
        if trouble is None:
            self.ready, self.reason = True, ""
            self.saw_answer()
            log.info("The model server answers, %.1f s after its start", self._process.age)
            trouble = await self._watch(self._process)
        return trouble

    async def _until_ready(self, process: ServerProcess) -> str | None:
        """None once the server has answered a real request, otherwise the reason why it will not."""
        deadline = time.monotonic() + self._patience.ready
        while process.running:
            left = deadline - time.monotonic()
            if left <= 0:
                return f"was not ready after {self._patience.ready:.0f} s ({self.reason})"
            trouble = await why_unhealthy(self._http, self.base_url, min(left, 5.0))
            if trouble is None:
                trouble = await self._unless_it_ends(process, self._why_no_answer(max(0.1, left)))
                if trouble is None and process.running:
                    return None
            self.reason = f"The model server is starting: {trouble}."
            await asyncio.sleep(self._patience.poll)
        return process.ending

    async def _watch(self, process: ServerProcess) -> str:
        """Return when the server has died, or fails real requests repeatedly, whatever ``/health`` says."""
        failures = 0
        while True:
            await self._pause(process, hurry=failures == 0)
            if not process.running:
                return process.ending
            if time.monotonic() - self._last_answer < self._patience.idle:
                failures = 0
                continue
            trouble = await self._unless_it_ends(process, self._why_no_answer(self._patience.probe))
            if trouble is None:
                failures = 0
                self.saw_answer()
                continue
            failures += 1
            if process.running:
                log.warning("Probe %d of %d failed: %s", failures, self._patience.failures, trouble)
                if failures >= self._patience.failures:
                    return f"does not work: {trouble}, {failures} times in a row"

    async def _pause(self, process: ServerProcess, *, hurry: bool) -> None:
        """Wait until the next probe is due or the server ends; with ``hurry`` also until a request fails."""
        ends, doubts = asyncio.create_task(process.wait()), asyncio.create_task(self._doubt.wait())
        try:
            timeout = self._patience.watch_every
            events = (ends, doubts) if hurry else (ends,)
            await asyncio.wait(events, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ends.cancel()
            doubts.cancel()
            self._doubt.clear()
            if not process.running:
                self._not_ready(f"The model server {process.ending}; it is being restarted: ask again.")

    async def _why_no_answer(self, timeout: float) -> str | None:
        return await why_no_answer(self._http, self.base_url, self._body, timeout)

    async def _unless_it_ends(self, process: ServerProcess, probe: Any) -> str | None:
        """The probe's result, or how the process ended if that comes first."""
        asked, ends = asyncio.ensure_future(probe), asyncio.create_task(process.wait())
        try:
            await asyncio.wait((asked, ends), return_when=asyncio.FIRST_COMPLETED)
            return asked.result() if asked.done() else process.ending
        finally:
            asked.cancel()
            ends.cancel()

    def _not_ready(self, reason: str) -> None:
        self.ready, self.reason = False, reason
