"""Work that meets a store in trouble waits, says so, and goes on by itself."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from typing import TypeVar

from shared.backoff import Backoff
from shared.errors import StorageUnavailable

log = logging.getLogger(__name__)

STORAGE_RETRIES = Backoff(1.0, 30.0, jitter=0.2)
SLOW_SECONDS = 20.0
"""A call that takes longer is told as well: a network disk that hangs raises no error."""
SLOW = f"the artifact store, which has not answered for {SLOW_SECONDS:.0f} s: check the disk, its mount and the network"
T = TypeVar("T")
Say = Callable[[str | None], None]


async def when_stored(call: Callable[[], T], say: Say) -> T:
    """The result of ``call``, which runs in a thread, and again after growing pauses while the store is in trouble.

    ``say`` gets what is waited for, and None when that is over. Any other error is raised.
    """
    for failures in itertools.count(1):
        try:
            result = await _told_if_slow(call, say)
        except StorageUnavailable as error:
            pause = STORAGE_RETRIES.delay(failures)
            log.warning("Waits %.0f s for storage: %s", pause, error.detail)
            say(error.waiting_for)
            await asyncio.sleep(pause)
        else:
            say(None)
            return result
    raise AssertionError("unreachable")


async def _told_if_slow(call: Callable[[], T], say: Say) -> T:
    running = asyncio.create_task(asyncio.to_thread(call))
    try:
        done, _ = await asyncio.wait({running}, timeout=SLOW_SECONDS)
        if not done:
            say(SLOW)
        return await running
    finally:
        running.cancel()
