"""The name of this process among all that share a Redis: leases, workers and replicas are known by it."""

from __future__ import annotations

import os
import secrets
import socket


def process_name() -> str:
    """Unique, also after a restart; it tells people where the process runs: ``host-pid-random``."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
