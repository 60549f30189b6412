"""Small real services for the supervisor's tests, and a real supervisor process that runs them.

``python -m tests.services.supervisor.small DATA_DIR NAME=KIND …`` runs a plan of such services until a signal.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from services.supervisor.logbook import LogBook
from services.supervisor.plan import Plan
from services.supervisor.probes import http_probe
from services.supervisor.service import NotReady, ProcessSpec
from services.supervisor.supervisor import SERVICE_STOP_SECONDS, data_dir_lock, supervise
from shared.processes.ports import free_port


def spec(name: str, kind: str) -> ProcessSpec:
    """A process of this kind on a free port."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = (sys.executable, str(Path(__file__).with_name("small_service.py")), kind, str(port))
    return ProcessSpec(name, command, probe=http_probe(url), url=url)


def plan_of(kinds: dict[str, str]) -> Plan:
    specs = [spec(name, kind) for name, kind in kinds.items()]
    return Plan(first=specs[:1], services=specs[1:], endpoints={s.name: s.url or "" for s in specs})


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


def main() -> None:
    data_dir = Path(sys.argv[1])
    kinds = dict(pair.split("=") for pair in sys.argv[2:])
    with data_dir_lock(data_dir, timeout=float(os.environ.get("LOCK_SECONDS", "15"))) as lock_fd:
        log = LogBook(data_dir / "logs" / "mpa.log", [*kinds, "supervisor"])
        started = time.monotonic()
        try:
            stop_seconds = float(os.environ.get("STOP_SECONDS", SERVICE_STOP_SECONDS))
            system = supervise(
                plan_of(kinds), data_dir, log, lock_fd=lock_fd, ready_timeout=20, stop_seconds=stop_seconds
            )
            asyncio.run(system)
        except NotReady as error:
            sys.exit(f"{error.detail} ({time.monotonic() - started:.1f} s)")


if __name__ == "__main__":
    main()
