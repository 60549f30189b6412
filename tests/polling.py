"""Wait for a condition with a deadline, instead of sleeping for a guessed time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(predicate: Callable[[], T], timeout: float = 10.0, every: float = 0.02) -> T:
    """The first true value of ``predicate``; fails after ``timeout`` seconds with the last value seen."""
    deadline = time.monotonic() + timeout
    while not (value := predicate()):
        assert time.monotonic() < deadline, f"still {value!r} after {timeout} s: {predicate}"
        time.sleep(every)
    return value


async def async_wait_until(predicate: Callable[[], Awaitable[T]], timeout: float = 10.0, every: float = 0.02) -> T:
    """Like wait_until for a coroutine function; the event loop runs on between two looks."""
    deadline = time.monotonic() + timeout
    while not (value := await predicate()):
        assert time.monotonic() < deadline, f"still {value!r} after {timeout} s: {predicate}"
        await asyncio.sleep(every)
    return value
