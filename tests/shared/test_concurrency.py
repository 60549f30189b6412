"""Coroutines that run side by side fail together; a loop ends although it misses a cancellation, as Redis calls may."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from redis.asyncio import Redis

from shared.concurrency import end_loops, run_all
from shared.errors import Unavailable, UpstreamError


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.concurrency.AGAIN_SECONDS", 0.02)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="wait_for loses no cancellation any more")
async def test_a_loop_ends_although_redis_client_swallows_the_cancellation(redis_url: str) -> None:
    async with Redis.from_url(redis_url, socket_timeout=5.0) as redis:

        async def look() -> None:
            while True:
                await redis.ping()

        loop = asyncio.create_task(look())
        async with asyncio.timeout(30):
            while not a_write_just_ended(loop):
                await asyncio.sleep(0)
            await end_loops({loop})
    assert loop.done()


def a_write_just_ended(task: asyncio.Task[Any]) -> bool:
    """The task waits in wait_for on what is done already: the moment in which Python 3.11 swallows a cancellation."""
    frames = []
    step: Any = task.get_coro()
    while getattr(step, "cr_frame", None) is not None:
        frames.append(step.cr_frame)
        step = step.cr_await
    return bool(frames) and frames[-1].f_code.co_name == "wait_for" and bool(frames[-1].f_locals["fut"].done())


@pytest.mark.parametrize("deaf", [0, 2])
async def test_a_loop_that_is_deaf_for_a_while_is_told_again(deaf: int) -> None:
    heard = 0

    async def stubborn() -> None:
        nonlocal heard
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                heard += 1
                if heard > deaf:
                    raise

    loop = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await end_loops({loop})
    assert loop.cancelled() and heard == deaf + 1


async def test_what_a_loop_raises_is_dropped_and_no_loops_are_no_wait() -> None:
    async def broken() -> None:
        raise ValueError("x")

    loop = asyncio.create_task(broken())
    await asyncio.sleep(0)
    await end_loops({loop})
    await end_loops(())
    assert loop.done()


async def test_results_come_in_the_order_given() -> None:
    async def late() -> str:
        await asyncio.sleep(0.02)
        return "late"

    async def soon() -> int:
        return 1

    assert await run_all(late(), soon()) == ("late", 1)
    assert await run_all() == ()


async def test_the_first_failure_ends_the_others_and_is_raised_itself() -> None:
    ended = []

    async def fail() -> None:
        await asyncio.sleep(0)
        raise Unavailable("first") from OSError("why")

    async def go_on() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(True)
            raise UpstreamError("second")

    async with asyncio.timeout(10):
        with pytest.raises(Unavailable, match="first") as caught:
            await run_all(go_on(), fail(), go_on())
    assert ended == [True, True]
    assert isinstance(caught.value.__cause__, OSError)


async def test_a_cancellation_ends_all_of_them() -> None:
    ended = []

    async def go_on() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(True)

    running = asyncio.create_task(run_all(go_on(), go_on()))
    await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended == [True, True]
