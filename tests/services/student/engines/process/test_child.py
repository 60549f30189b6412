"""The service's end of the line to a process that reads slowly, or not at all."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from services.student.engines.base import UNWATCHED
from services.student.engines.process.child import ModelChild
from shared.errors import Unavailable
from tests.polling import async_wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
PAYLOAD = bytes(4_000_000)
CALLS = 12


async def test_calls_wait_for_a_process_that_does_not_read() -> None:
    """The memory for frames stays that of one frame, however many calls wait."""
    child = ModelChild(UNWATCHED, lambda version, digest, length: None)
    await child.spawn()
    os.kill(child.pid, signal.SIGSTOP)
    head = {"do": "answer", "digest": "", "prompt": {}, "samplings": [], "stream": False}
    calls = [asyncio.create_task(child.call(head, PAYLOAD)) for _ in range(CALLS)]

    async def all_wait() -> bool:
        return child.waiting == CALLS

    await async_wait_until(all_wait)
    buffered = child._writer.transport.get_write_buffer_size()  # type: ignore[attr-defined]
    calls[0].cancel()
    await child.kill()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert 0 < buffered < 2 * len(PAYLOAD), buffered
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes[1:])
    assert child.waiting == 0
