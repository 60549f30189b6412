"""What replicas tell each other, on a real Redis that also goes away and comes back."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.contracts import ReplicaInfo
from shared.errors import Unavailable
from shared.state.replicas import ReplicaBoard
from tests.embedded_redis import start_embedded_redis
from tests.polling import async_wait_until

NOW = datetime(2026, 1, 2, tzinfo=UTC)
LONG, SHORT = timedelta(seconds=60), timedelta(milliseconds=50)


def info(name: str, version: str = "base") -> ReplicaInfo:
    return ReplicaInfo(id=name, version=version, started_at=NOW, seen_at=NOW)


async def test_replicas_are_listed_until_they_fall_silent_or_leave(redis_url: str) -> None:
    board, other = ReplicaBoard.from_url(redis_url, "student"), ReplicaBoard.from_url(redis_url, "another")
    try:
        assert await board.replicas() == []
        await board.announce(info("a"), LONG)
        await board.announce(info("b"), SHORT)
        await board.announce(info("c"), LONG)
        await board.announce(info("a", "job-1"), LONG)
        await other.announce(info("x"), LONG)
        await board.leave("c")

        async def only_a() -> bool:
            return await board.replicas() == [info("a", "job-1")]

        await async_wait_until(only_a)
        assert [r.id for r in await other.replicas()] == ["x"]
    finally:
        await board.aclose()
        await other.aclose()


async def test_counts_stay_and_replace_what_was_said_before(redis_url: str) -> None:
    board = ReplicaBoard.from_url(redis_url, "student")
    try:
        await board.count("canary-0", "a", "1")
        await board.count("canary-0", "a", "2")
        await board.count("canary-0", "b", "3")
        assert await board.counts("canary-0") == {"a": "2", "b": "3"}
        assert await board.counts("canary-1") == {}
    finally:
        await board.aclose()


async def test_a_push_reaches_who_listens_even_after_redis_was_killed(tmp_path: Path) -> None:
    server = start_embedded_redis(tmp_path)
    board = ReplicaBoard.from_url(server.url, "student")
    heard = 0

    async def listen() -> None:
        nonlocal heard
        while True:
            try:
                async for _ in board.told():
                    heard += 1
            except Unavailable:
                await asyncio.sleep(0.05)

    listening = asyncio.create_task(listen())
    try:
        await async_wait_until(lambda: _same(heard >= 1))
        await board.tell()
        await async_wait_until(lambda: _same(heard >= 2))
        server.process.kill()
        server.process.wait()
        with pytest.raises(Unavailable, match="MPA_REDIS_URL"):
            await board.tell()
        with pytest.raises(Unavailable):
            await board.replicas()
        server = start_embedded_redis(tmp_path, port=server.port)
        await async_wait_until(lambda: _same(heard >= 3))  # it looks again after the gap
        await board.tell()
        await async_wait_until(lambda: _same(heard >= 4))
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await board.aclose()
        server.stop()


async def _same(value: bool) -> bool:
    return value
