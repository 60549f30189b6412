"""How many calls may be in flight to a model server, found out by trying: additive increase, multiplicative decrease.

One Throttle is shared by all shards of a worker process, which run in threads with event loops of their own.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

log = logging.getLogger(__name__)

FIRST_LIMIT = 4.0
DECREASE = 0.5
TIMER_SLACK = 0.001  # a timer may fire a little early, and nobody would look again


@dataclass(order=True)
class _Waiter:
    """Sorted by ``rank``, then by arrival."""

    rank: float
    number: int
    loop: asyncio.AbstractEventLoop = field(compare=False)
    turn: asyncio.Future[None] = field(compare=False)
    granted: bool = field(default=False, compare=False)
    gone: bool = field(default=False, compare=False)


class Slot:
    """The right to one call. Say how it ended, where that tells something about the server's load."""

    def __init__(self, throttle: Throttle, number: int) -> None:
        self._throttle, self._number = throttle, number
        self.began = time.monotonic()
        self.outcome = "failed"

    def answered(self) -> None:
        self.outcome = "answered"
        self._throttle._answered(self._number, time.monotonic() - self.began)

    def overloaded(self, pause: float | None) -> None:
        """The server refused for want of capacity, or cannot be reached. ``pause``: seconds that it asked for."""
        self.outcome = "overloaded"
        self._throttle._overloaded(self._number, pause)


class Throttle:
    """Grows by one call for each round of answers; halves when the server is overloaded, once a round.

    After a halving it grows by one for each answer up to half of what was too much, so that an outage, in which it
    falls to 1, does not leave the server idle afterwards. ``most`` bounds it. A call that takes longer than ``slow``
    seconds counts as overload too: a server that queues without end must not be filled until calls time out.
    ``on_call`` is told of each call's outcome and seconds.
    """

    def __init__(self, name: str, most: int, slow: float = float("inf")) -> None:
        self.name, self.most = name, most
        self.limit = min(FIRST_LIMIT, float(most))
        self.in_flight = 0
        self._slow = slow
        self._threshold = float(most)
        self._lock = threading.Lock()
        self._waiters: list[_Waiter] = []
        self._arrivals = itertools.count()
        self._calls = 0
        self._last_cut = 0
        self._answered_since_cut = True
        self._opens_at = 0.0
        self.on_call: Callable[[str, float], None] = lambda _outcome, _seconds: None

    @asynccontextmanager
    async def slot(self, rank: float = 0.0) -> AsyncIterator[Slot]:
        """Wait for a turn; lower ranks come first."""
        number = await self._acquire(rank)
        slot = Slot(self, number)
        try:
            yield slot
        finally:
            self.on_call(slot.outcome, time.monotonic() - slot.began)
            with self._lock:
                self.in_flight -= 1
            self._grant()

    async def _acquire(self, rank: float) -> int:
        loop = asyncio.get_running_loop()
        waiter = _Waiter(rank, next(self._arrivals), loop, loop.create_future())
        with self._lock:
            heapq.heappush(self._waiters, waiter)
            closed_for = self._opens_at - time.monotonic()
        if closed_for > 0:
            loop.call_later(closed_for + TIMER_SLACK, self._grant)
        self._grant()
        try:
            await waiter.turn
        except asyncio.CancelledError:
            with self._lock:
                waiter.gone = True
                self.in_flight -= waiter.granted
            self._grant()
            raise
        with self._lock:
            self._calls += 1
            return self._calls

    def _grant(self) -> None:
        """Give turns to as many as may go now. Safe from any thread."""
        with self._lock:
            while self._waiters and self.in_flight < int(self.limit) and time.monotonic() >= self._opens_at:
                waiter = heapq.heappop(self._waiters)
                if waiter.gone:
                    continue
                waiter.granted = True
                self.in_flight += 1
                waiter.loop.call_soon_threadsafe(_take_turn, waiter.turn)

    def _answered(self, number: int, seconds: float) -> None:
        with self._lock:
            self._answered_since_cut = True
            if seconds > self._slow:
                self._cut(number, f"a call took {seconds:.0f} s")
            elif self.in_flight >= int(self.limit):  # else nothing shows that more calls would be answered too
                self.limit += 1.0 if self.limit < self._threshold else 1.0 / self.limit
                self.limit = min(self.limit, float(self.most))
        self._grant()

    def _overloaded(self, number: int, pause: float | None) -> None:
        with self._lock:
            self._cut(number, "it is overloaded or away")
            if pause is not None and pause > 0:
                self._opens_at = max(self._opens_at, time.monotonic() + pause)
                for waiter in self._waiters:
                    if not waiter.gone:
                        waiter.loop.call_soon_threadsafe(waiter.loop.call_later, pause + TIMER_SLACK, self._grant)

    def _cut(self, number: int, why: str) -> None:
        """Halve, unless this call began before the last halving: then it says nothing about the present limit."""
        if number <= self._last_cut:
            return
        before, self.limit = self.limit, max(1.0, self.limit * DECREASE)
        if self._answered_since_cut:
            self._threshold = self.limit
            log.info("At most %d calls to the %s at once, not %d: %s.", self.limit, self.name, before, why)
        self._last_cut = self._calls
        self._answered_since_cut = False


def _take_turn(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)
