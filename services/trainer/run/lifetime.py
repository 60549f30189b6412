"""A training process works alone in its folder, and ends with the process that started it."""

from __future__ import annotations

import logging
import os
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NoReturn

from shared.errors import Unavailable
from shared.files import locked

_LOCK_PATIENCE = 30.0
_ORPHANED = 3


def hold_folder(folder: Path) -> AbstractContextManager[int]:
    """Wait until no other process works in ``folder``, then keep it; a predecessor may still be ending.

    Raises Unavailable if the other process does not end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    refusal = Unavailable(f"Another process trains in {folder} and does not end.")
    return locked(folder / ".lock", _LOCK_PATIENCE, refusal)


def end_with_parent() -> None:
    """End this process, whatever it is doing, when its standard input closes.

    The parent holds the other end and never writes: it closes when the parent is gone, however it ended.
    """
    threading.Thread(target=_wait_for_end_of_input, daemon=True).start()


def end_now(code: int) -> NoReturn:
    """End this process at once. Only its log is closed properly."""
    logging.shutdown()
    os._exit(code)


def _wait_for_end_of_input() -> None:
    while os.read(0, 1024):  # unbuffered: a lock on sys.stdin would abort the interpreter's shutdown
        pass
    os._exit(_ORPHANED)
