"""Coroutines that run side by side, and background loops, with an end that is certain."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar, overload

AGAIN_SECONDS = 0.2
A = TypeVar("A")
B = TypeVar("B")


@overload
async def run_all(first: Coroutine[Any, Any, A], second: Coroutine[Any, Any, B], /) -> tuple[A, B]: ...
@overload
async def run_all(*coroutines: Coroutine[Any, Any, A]) -> tuple[A, ...]: ...
async def run_all(*coroutines: Coroutine[Any, Any, Any]) -> tuple[Any, ...]:
    """Run coroutines at the same time and return their results in the order given.

    The first failure cancels the others. Once all have ended, ``run_all`` raises that first error itself, not an
    exception group, so that callers can catch it by its type.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
        return tuple(task.result() for task in tasks)
    except BaseExceptionGroup as failed:
        first: BaseException = failed.exceptions[0]
    raise first  # outside the handler, so that it keeps its own cause and context


async def end_loops(loops: Iterable[asyncio.Task[Any]], again: float | None = None) -> None:
    """Cancel tasks and wait until they have ended. Their errors are dropped.

    Cancels repeatedly, because one cancellation is not enough: the Redis client writes with ``asyncio.wait_for``, which
    before Python 3.12 swallows a cancellation that arrives just as the write finishes, and the loop would run forever.
    The next cancellation, ``again`` seconds later (default: AGAIN_SECONDS), interrupts a longer clean-up.
    """
    left = set(loops)
    while left:
        for loop in left:
            loop.cancel()
        done, left = await asyncio.wait(left, timeout=AGAIN_SECONDS if again is None else again)
        for loop in done:
            if not loop.cancelled():
                loop.exception()  # retrieved, or asyncio would log that nobody did
