"""How many calls to a model server may be in flight, found by trying: additive increase, multiplicative decrease.

All shards of a worker process share one Limiter for each server, on one event loop.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

log = logging.getLogger(__name__)

FIRST_LIMIT = 4.0
DECREASE = 0.5
TIMER_SLACK = 0.001  # a timer may fire slightly early, and nothing checks again


@dataclass(order=True)
class _Waiter:
    """Sorted by ``rank``, then by arrival."""

    rank: float
    number: int
    turn: asyncio.Future[None] = field(compare=False)


class Slot:
    """The right to one call. Call ``answered`` or ``overloaded`` if its outcome tells something about the load."""

    def __init__(self, limiter: Limiter, number: int) -> None:
        self._limiter, self._number = limiter, number
        self.began = time.monotonic()
        self.outcome = "failed"

    def answered(self) -> None:
        self.outcome = "answered"
        self._limiter._answered(self._number, time.monotonic() - self.began)

    def overloaded(self, pause: float | None) -> None:
        """The server had no capacity, or cannot be reached. ``pause``: seconds that it asked to wait."""
        self.outcome = "overloaded"
        self._limiter._overloaded(self._number, pause)


class Limiter:
    """Grows by one call for each round of answers; halves when the server is overloaded, at most once a round.

    After a halving it grows by one for each answer up to half of what was too much. So an outage, in which it falls to
    1, does not leave the server idle afterwards. ``most`` is the upper bound. A call that takes longer than ``slow``
    seconds counts as overload too: a server that queues without limit must not be filled until calls time out.
    ``on_call`` receives the outcome and the seconds of each call.
    """

    def __init__(self, name: str, most: int, slow: float = float("inf")) -> None:
        self.name, self.most = name, most
        self.limit = min(FIRST_LIMIT, float(most))
        self.in_flight = 0
        self._slow = slow
        self._threshold = float(most)
        self._waiters: list[_Waiter] = []
        self._arrivals = itertools.count()
        self._calls = 0
        self._last_cut = 0
        self._answered_since_cut = True
        self._opens_at = 0.0
        self.on_call: Callable[[str, float], None] = lambda _outcome, _seconds: None

    @asynccontextmanager
    async def slot(self, rank: float = 0.0) -> AsyncIterator[Slot]:
        """Wait for a turn. Lower ranks come first."""
        await self._turn(rank)
        self._calls += 1
        slot = Slot(self, self._calls)
        try:
            yield slot
        finally:
            self.on_call(slot.outcome, time.monotonic() - slot.began)
            self._leave()

    async def _turn(self, rank: float) -> None:
        waiter = _Waiter(rank, next(self._arrivals), asyncio.get_running_loop().create_future())
        heapq.heappush(self._waiters, waiter)
        self._grant()
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if not waiter.turn.cancelled():  # the turn was granted in the same moment
                self._leave()
            raise

    def _leave(self) -> None:
        self.in_flight -= 1
        self._grant()

    def _grant(self) -> None:
        """Give turns to as many as may go now."""
        while self._waiters and self.in_flight < int(self.limit) and time.monotonic() >= self._opens_at:
            turn = heapq.heappop(self._waiters).turn
            if not turn.cancelled():
                self.in_flight += 1
                turn.set_result(None)

    def _answered(self, number: int, seconds: float) -> None:
        self._answered_since_cut = True
        if seconds > self._slow:
            self._cut(number, f"a call took {seconds:.0f} s")
        elif self.in_flight >= int(self.limit):  # otherwise nothing shows that more calls would be answered too
            self.limit += 1.0 if self.limit < self._threshold else 1.0 / self.limit
            self.limit = min(self.limit, float(self.most))
        self._grant()

    def _overloaded(self, number: int, pause: float | None) -> None:
        self._cut(number, "it is overloaded or cannot be reached")
        if pause is not None and pause > 0:
            self._opens_at = max(self._opens_at, time.monotonic() + pause)
            asyncio.get_running_loop().call_later(pause + TIMER_SLACK, self._grant)

    def _cut(self, number: int, why: str) -> None:
        """Halve, unless this call began before the last halving: then it says nothing about the current limit."""
        if number <= self._last_cut:
            return
        before, self.limit = self.limit, max(1.0, self.limit * DECREASE)
        if self._answered_since_cut:
            self._threshold = self.limit
            log.info("At most %d calls to the %s at once, down from %d: %s.", self.limit, self.name, before, why)
        self._last_cut = self._calls
        self._answered_since_cut = False
