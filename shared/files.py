"""Files of this machine: replaced whole, created once, locked between processes."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = ".tmp-"
"""How the names of unfinished files begin."""
_POLL_SECONDS = 0.1


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``: its file replaces ``path`` if the block succeeds, and is removed if not."""
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(6)}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_file(path: Path, data: bytes) -> None:
    """Readers see the old bytes or the new ones, never a part, and the new ones survive a power failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        _write_through(temporary, data)
    sync_folder(path.parent)


def create_file(path: Path, data: bytes) -> bool:
    """As ``write_file``, unless ``path`` exists: the first writer wins. Returns whether this call wrote."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(6)}")
    try:
        _write_through(temporary, data)
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


@contextmanager
def locked(path: Path, timeout: float, refusal: Exception) -> Iterator[int]:
    """Hold the lock of ``path``, which is created if need be; yields its descriptor.

    The lock ends with the block, or with the last process that inherited the descriptor. Raises ``refusal`` if another
    process still holds it after ``timeout`` seconds.
    """
    with path.open("a") as file:
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise refusal from None
                time.sleep(_POLL_SECONDS)
        yield file.fileno()


def sync_folder(folder: Path) -> None:
    """Make new names in ``folder`` survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_through(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
