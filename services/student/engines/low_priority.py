"""Threads of low priority for loading a checkpoint, so that it does not take the processor from requests."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
NICENESS = 10


async def in_quiet_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Like asyncio.to_thread, but on a new thread that yields to all others (on Linux)."""
    context = copy_context()  # so that its log lines belong to the caller's request and trace
    pool = ThreadPoolExecutor(1, "student-load", initializer=_lower_priority)
    try:
        return await asyncio.get_running_loop().run_in_executor(pool, lambda: context.run(function, *args, **kwargs))
    finally:
        pool.shutdown(wait=False)


def _lower_priority() -> None:
    with suppress(OSError, AttributeError):
        # On Linux a thread has a niceness of its own, under its native id.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
