"""How long a request is worked on: until its time is up, or its client hangs up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from fastapi import Request

from shared.errors import Unavailable
from shared.http.disconnects import unless_gone

T = TypeVar("T")


async def finish(request: Request, seconds: float, work: Awaitable[T]) -> T:
    """The result of ``work``. Raises Unavailable after ``seconds``, ClientGone if the client hangs up first."""
    return await unless_gone(request, _within(seconds, work))


async def _within(seconds: float, work: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError as error:
        raise Unavailable("The student did not answer in time: retry, or lower the load.", retry_after=1) from error
