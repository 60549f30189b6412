"""Many threads hand work to one event loop, which may be stopped at any time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest

from shared.errors import Unavailable
from shared.queue.work_loop import Stopping, Work, WorkLoop
from shared.telemetry.logs import _fields, log_fields
from tests.polling import wait_until

FOREVER = 3600.0


class Seen:
    """What the work has done."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.given_back: list[str] = []
        self.loops: set[asyncio.AbstractEventLoop] = set()
        self.fields: list[dict[str, object]] = []
        self.closed = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Work]:
        yield self.work
        self.loops.add(asyncio.get_running_loop())
        self.closed += 1

    async def work(self, what: str) -> None:
        self.begun.append(what)
        self.loops.add(asyncio.get_running_loop())
        self.fields.append(_fields.get())
        if what == "broken":
            raise Unavailable("no model")
        if what == "blocking":
            barrier = threading.Barrier(12)  # more than the default executor of a machine with few cores takes
            await asyncio.gather(*(asyncio.to_thread(barrier.wait, 10) for _ in range(12)))
        if what.startswith("endless"):
            try:
                await asyncio.sleep(FOREVER)
            except asyncio.CancelledError:
                await asyncio.sleep(0.01)
                self.given_back.append(what)
                raise


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def test_all_threads_share_one_loop_and_keep_their_own_context(seen: Seen, threads: ThreadPoolExecutor) -> None:
    def run(loop: WorkLoop, name: str) -> None:
        with log_fields(job_id=name):
            loop.run(name)

    names = [f"job-{number}" for number in range(8)]
    with WorkLoop(seen.open, threads=4) as loop:
        list(threads.map(lambda name: run(loop, name), names))
    assert sorted(seen.begun) == names
    assert sorted(str(fields["job_id"]) for fields in seen.fields) == names
    assert (len(seen.loops), seen.closed) == (1, 1)


def test_an_error_reaches_its_caller_and_nobody_else(seen: Seen) -> None:
    with WorkLoop(seen.open) as loop:
        with pytest.raises(Unavailable, match="no model"):
            loop.run("broken")
        loop.run("next")


def test_what_cannot_be_opened_is_raised_to_who_starts_it() -> None:
    @asynccontextmanager
    async def broken() -> AsyncIterator[Work]:
        raise Unavailable("no tasks file")
        yield

    with pytest.raises(Unavailable, match="no tasks file"), WorkLoop(broken):
        pass


def test_stopping_gives_all_work_back_and_takes_no_more(seen: Seen, threads: ThreadPoolExecutor) -> None:
    with WorkLoop(seen.open, threads=4) as loop:
        running = [threads.submit(loop.run, f"endless-{number}") for number in range(3)]
        wait_until(lambda: len(seen.begun) == 3)
        loop.stop()
        for caller in running:
            assert isinstance(caller.exception(10), Stopping)
        assert len(seen.given_back) == 3
        assert seen.closed == 0  # the clients are there as long as something may ask for them
        with pytest.raises(Stopping):
            loop.run("late")
    assert "late" not in seen.begun
    assert seen.closed == 1


def test_leaving_stops_what_still_runs(seen: Seen, threads: ThreadPoolExecutor) -> None:
    with WorkLoop(seen.open) as loop:
        running = threads.submit(loop.run, "endless")
        wait_until(lambda: seen.begun)
    assert isinstance(running.exception(10), Stopping)
    assert (seen.given_back, seen.closed) == (["endless"], 1)


def test_blocking_steps_have_threads_for_each_caller(seen: Seen) -> None:
    with WorkLoop(seen.open, threads=4) as loop:
        loop.run("blocking")
