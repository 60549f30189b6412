"""A call to a store in trouble is made again, with growing pauses, and what it waits for is told."""

from __future__ import annotations

import asyncio

import pytest

from shared.backoff import Backoff
from shared.errors import NotFound, StorageUnavailable
from shared.store import waiting
from tests.polling import async_wait_until


async def test_a_call_is_made_again_until_the_trouble_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "STORAGE_RETRIES", Backoff(0.01, 0.02))
    said: list[str | None] = []
    left = [StorageUnavailable("The artifact store is full."), StorageUnavailable("The artifact store is away.")]

    def call() -> int:
        if left:
            raise left.pop(0)
        return 7

    assert await waiting.when_stored(call, said.append) == 7
    assert said == ["the artifact store is full.", "the artifact store is away.", None]


async def test_any_other_error_is_raised_at_once() -> None:
    def call() -> None:
        raise NotFound("There is no such object.")

    with pytest.raises(NotFound):
        await waiting.when_stored(call, lambda _: None)


async def test_waiting_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "STORAGE_RETRIES", Backoff(600.0, 600.0))
    said: list[str | None] = []

    def call() -> None:
        raise StorageUnavailable("The artifact store is full.")

    running = asyncio.create_task(waiting.when_stored(call, said.append))
    await async_wait_until(lambda: _true(bool(said)))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_call_that_hangs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "SLOW_SECONDS", 0.05)
    said: list[str | None] = []
    ends = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hang() -> int:
        asyncio.run_coroutine_threadsafe(ends.wait(), loop).result(30)
        return 7

    running = asyncio.create_task(waiting.when_stored(hang, said.append))
    await async_wait_until(lambda: _true(bool(said)))
    ends.set()
    assert await running == 7
    assert said == [waiting.SLOW, None]


async def _true(value: bool) -> bool:
    return value
