"""Loops that run beside everything else, and how to end them for sure."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

AGAIN_SECONDS = 0.2


async def end_loops(loops: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended; what they raise is dropped.

    Again and again, because one cancellation is not enough: Redis' client writes with ``asyncio.wait_for``, which until
    Python 3.12 swallows a cancellation that comes just when the write is done, and the loop would go on for ever. Only
    for tasks that have nothing long to clean up: the next cancellation would cut that short.
    """
    left = set(loops)
    while left:
        for loop in left:
            loop.cancel()
        done, left = await asyncio.wait(left, timeout=AGAIN_SECONDS)
        for loop in done:
            if not loop.cancelled():
                loop.exception()  # looked at, or asyncio would complain that nobody did
