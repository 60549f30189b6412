"""A training process works alone in its folder, and ends with the process that started it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from filelock import FileLock, Timeout

from shared.errors import Unavailable

_LOCK_PATIENCE = 30.0
_ORPHANED = 3


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Wait until no other process works in ``folder``, then keep it; a predecessor may still be ending.

    Raises Unavailable if the other process goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=_LOCK_PATIENCE)
    except Timeout as error:
        raise Unavailable(f"Another process trains in {folder} and does not end.") from error
    try:
        yield
    finally:
        lock.release()


def end_with_parent() -> None:
    """End this process, in whatever it does, when its standard input closes.

    The parent holds the other end and never writes: it closes when the parent is gone, however it went.
    """
    threading.Thread(target=_wait_for_end_of_input, daemon=True).start()


def end_now(code: int) -> NoReturn:
    """End this process without any cleaning up but that of its log."""
    logging.shutdown()
    os._exit(code)


def _wait_for_end_of_input() -> None:
    while os.read(0, 1024):  # unbuffered: a lock on sys.stdin would abort the interpreter's own end
        pass
    os._exit(_ORPHANED)
