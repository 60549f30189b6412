"""Starts all services in order, announces when they are ready, keeps them running, and stops them in time."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from services.supervisor.logbook import LogBook
from services.supervisor.plan import Plan
from services.supervisor.service import ProcessSpec, RestartPolicy, Service
from shared.errors import Conflict
from shared.files import locked, write_file
from shared.processes.reaper import Reaper

ENDPOINTS_FILE = "endpoints.json"
READY_SECONDS = 300.0
# Services stop first: they still need Redis while they stop. Both together take less than 15 s.
SERVICE_STOP_SECONDS = 10.5
FIRST_STOP_SECONDS = 2.5
LOCK_SECONDS = 15.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Supervisor:
    """Runs a plan until a stop event."""

    def __init__(
        self,
        plan: Plan,
        data_dir: Path,
        log: LogBook,
        *,
        reaper: Reaper | None = None,
        policy: RestartPolicy | None = None,
        stop_seconds: float = SERVICE_STOP_SECONDS,
    ) -> None:
        self._plan = plan
        self._endpoints_file = data_dir / ENDPOINTS_FILE
        self._log = log
        self._reaper = reaper
        self._policy = policy
        self._stop_seconds = stop_seconds
        self._first: list[Service] = []
        self._services: list[Service] = []

    async def run(self, stop: asyncio.Event, *, ready_timeout: float = READY_SECONDS) -> None:
        """Start all, wait until they are ready, and run until ``stop`` is set. Then stop all. Raises NotReady."""
        self._endpoints_file.unlink(missing_ok=True)
        stopping = asyncio.create_task(stop.wait())
        starting = asyncio.create_task(self._start(ready_timeout))
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                await stopping
        finally:
            for task in (starting, stopping):
                task.cancel()
            await asyncio.wait({starting, stopping})
            self._endpoints_file.unlink(missing_ok=True)
            await self._stop()

    def kill_now(self) -> None:
        """SIGKILL to all process groups, without waiting any longer."""
        for service in (*self._services, *self._first):
            service.kill_now()

    async def _start(self, timeout: float) -> None:
        started = time.monotonic()
        for name, url in self._plan.remote.items():
            self._log.write("supervisor", f"{name} runs elsewhere: {url} (MPA_{name.upper()}_URL)")
        self._first = self._launch(self._plan.first)
        await self._all_ready(self._first, timeout)
        self._services = self._launch(self._plan.services)
        await self._all_ready(self._services, timeout)
        write_endpoints(self._endpoints_file, self._plan.endpoints)
        self._announce(time.monotonic() - started)

    def _launch(self, specs: list[ProcessSpec]) -> list[Service]:
        services = [Service(spec, self._log, self._reaper, self._policy) for spec in specs]
        for service in services:
            service.start()
        return services

    async def _all_ready(self, services: list[Service], timeout: float) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for service in services:
                    group.create_task(self._ready(service, timeout))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures

    async def _ready(self, service: Service, timeout: float) -> None:
        started = time.monotonic()
        await service.wait_ready(timeout)
        self._log.write("supervisor", f"{service.spec.name} is ready after {time.monotonic() - started:.1f} s")

    def _announce(self, seconds: float) -> None:
        say = self._log.write
        say("supervisor", f"all services are ready after {seconds:.0f} s:")
        pids = {service.spec.name: service.pid for service in (*self._first, *self._services)}
        for name in [*pids, *(name for name in self._plan.remote if name not in pids)]:
            url = self._plan.endpoints.get(name, "")
            place = f"process {pids[name]}" if name in pids else "elsewhere"
            say("supervisor", f"  {name:<15} {url:<32} {place}")
        say("supervisor", f"endpoints: {self._endpoints_file}; log: {self._log.path}; Ctrl-C stops all")

    async def _stop(self) -> None:
        started = time.monotonic()
        if self._services or self._first:
            self._log.write("supervisor", "stopping")
        for services, seconds in ((self._services, self._stop_seconds), (self._first, FIRST_STOP_SECONDS)):
            async with asyncio.TaskGroup() as group:
                for service in services:
                    group.create_task(service.stop(seconds))
        self._log.write("supervisor", f"all stopped after {time.monotonic() - started:.1f} s")


def write_endpoints(path: Path, endpoints: Mapping[str, str]) -> None:
    """Tell others where the running system is. Readers see the whole file or none."""
    write_file(path, (json.dumps({**endpoints, "pid": os.getpid()}, indent=2) + "\n").encode())


def data_dir_lock(data_dir: Path, timeout: float = LOCK_SECONDS) -> AbstractContextManager[int]:
    """One system per data folder: two would write one Redis file. Yields the lock's descriptor. Raises Conflict."""
    data_dir.mkdir(parents=True, exist_ok=True)
    refusal = Conflict(
        f"Another system is running on {data_dir.absolute()}: stop it, or use another folder for this "
        "one (MPA_DATA_DIR)."
    )
    return locked(data_dir / "mpa.lock", timeout, refusal)


async def supervise(
    plan: Plan,
    data_dir: Path,
    log: LogBook,
    *,
    lock_fd: int,
    ready_timeout: float = READY_SECONDS,
    stop_seconds: float = SERVICE_STOP_SECONDS,
) -> None:
    """Run a plan until SIGINT, SIGTERM or SIGHUP. A second signal kills all services at once."""
    reaper = Reaper(grace=stop_seconds, delete=[data_dir / ENDPOINTS_FILE], lock_fd=lock_fd)
    supervisor = Supervisor(plan, data_dir, log, reaper=reaper, stop_seconds=stop_seconds)
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            supervisor.kill_now()
        stop.set()

    loop = asyncio.get_running_loop()
    for signum in STOP_SIGNALS:
        loop.add_signal_handler(signum, on_signal)
    try:
        await supervisor.run(stop, ready_timeout=ready_timeout)
    finally:
        await asyncio.to_thread(reaper.close)
