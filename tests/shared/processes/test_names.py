"""The name that a process has in Redis."""

from __future__ import annotations

import os
import socket

from shared.processes.names import process_name


def test_a_name_says_where_the_process_runs_and_is_never_the_same() -> None:
    first, second = process_name(), process_name()
    assert first.startswith(f"{socket.gethostname()}-{os.getpid()}-") and first != second
