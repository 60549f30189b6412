"""Tells an input that a server cannot handle from a server that has a bad minute.

An input is at fault only if it fails alone: again and again, over some time, while the server answers other requests
between its failures. What the others tell is shared by all shards of a worker process.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from shared.backoff import Backoff
from shared.errors import Unavailable, UpstreamError

REMEMBERED = 4096
LACKING = 600.0  # seconds for which a route that was not there is not asked for
RECENT = 60.0  # seconds in which a failure that passed in the end shows that the server is not well
# Chances that a server which fails at random, as often as it did with others, fails this often with one input.
ODDS = 1e-6
ODDS_IN_WORDS = 1e-3  # where the server's words speak of the input

Call = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class RetryPolicy:
    """Pauses in seconds: they grow from ``first`` to ``longest``, or to ``longest_asked`` if the server asks for it.

    ``settled``: how long an input must have failed alone before it is at fault; ``settled_in_words``: the same where
    the server's words speak of the input. ``longest_turned_away``: the longest pause of a call that was too much at
    once, because a server that turns calls away is up.
    """

    first: float = 0.5
    longest: float = 120.0
    longest_asked: float = 300.0
    longest_turned_away: float = 10.0
    settled: float = 90.0
    settled_in_words: float = 5.0

    @property
    def pauses(self) -> Backoff:
        return Backoff(self.first, self.longest, jitter=0.5)


class Evidence:
    """The calls of one route of one server: when some passed, and which failures passed in the end."""

    def __init__(self) -> None:
        self.last_pass = float("-inf")  # when the last one that passed began
        self._passes: deque[float] = deque(maxlen=REMEMBERED)
        self._healed: deque[float] = deque(maxlen=REMEMBERED)
        self._proven: set[str] = set()
        self._lacking, self._lacking_until = "", 0.0
        self._known_good: Call | None = None
        self._news = asyncio.Event()
        self._probing = asyncio.Lock()
        self._failed_probes, self._next_probe = 0, 0.0

    def passed(
        self, began: float, call: Call | None = None, failures: Iterable[float] = (), refusals: Iterable[str] = ()
    ) -> None:
        """A call passed, and ``call`` repeats it.

        ``failures``: when the same request failed before, while others passed. ``refusals``: the words of those.
        """
        self.last_pass = max(self.last_pass, began)
        self._passes.append(began)
        self._healed.extend(failures)
        self._proven.difference_update(refusals)
        self._known_good = call or self._known_good
        self._news.set()
        self._news = asyncio.Event()

    def passes_since(self, moment: float) -> int:
        return sum(began >= moment for began in self._passes)

    def healed_since(self, moment: float) -> int:
        return sum(failed >= moment for failed in self._healed)

    def prove(self, words: str) -> None:
        """A request was found to be at fault, and the server said so in these words."""
        self._proven.add(words)

    def is_proven(self, words: str) -> bool:
        return words in self._proven

    def note_lacking(self, detail: str) -> None:
        """The server was found not to have this route, in its words. Believed for a while: it may be replaced."""
        self._lacking, self._lacking_until = detail, time.monotonic() + LACKING

    @property
    def lacking(self) -> str:
        """Why the server has no such route; "" if it has, or if nobody knows."""
        return self._lacking if time.monotonic() < self._lacking_until else ""

    @property
    def well(self) -> bool:
        """Whether no request failed of late that passed in the end, while others passed."""
        return self.healed_since(time.monotonic() - RECENT) == 0

    async def wait_for_pass(self, since: float, timeout: float) -> None:
        """Until a call has passed that began after ``since``, or for ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while self.last_pass < since:
                    await self._news.wait()
        except TimeoutError:
            return

    async def probe(self, since: float, ask: Callable[[Call | None], Awaitable[object]], pauses: Backoff) -> None:
        """Find out whether the server answers at all, unless it has passed a call that began after ``since``.

        ``ask`` sends the last call that passed, or something harmless if there is none. While the server is away, all
        shards together probe it with growing pauses.
        """
        async with self._probing:
            began = time.monotonic()
            if self.last_pass >= since or began < self._next_probe:
                return
            try:
                await ask(self._known_good)
            except (Unavailable, UpstreamError):
                self._failed_probes += 1
                self._next_probe = time.monotonic() + pauses.delay(self._failed_probes)
            else:
                self._failed_probes = 0
                self.passed(began)


class Health:
    """The evidence on each route of one server."""

    def __init__(self) -> None:
        self.chat, self.score, self.attention = Evidence(), Evidence(), Evidence()
        self.breaks_on_schemas = False


class Trial:
    """The failures of one request. ``alone``: the moments of those after which another call began and passed."""

    def __init__(self) -> None:
        self.tries = 0
        self.alone: list[float] = []
        self.last_failure = self._first_failure = float("-inf")
        self._unconfirmed = 0

    def failed(self) -> None:
        self.last_failure = time.monotonic()
        if not self.tries:
            self._first_failure = self.last_failure
        self.tries += 1
        self._unconfirmed += 1

    @property
    def seconds(self) -> float:
        """From the first failure to the last one."""
        return self.last_failure - self._first_failure

    @property
    def needs_probe(self) -> bool:
        """A first failure is only tried again: most servers are well by then."""
        return bool(self.alone) or self._unconfirmed > 1

    @property
    def last_counts(self) -> bool:
        return bool(self.alone) and self.alone[-1] == self.last_failure

    def confirmed(self, evidence: Evidence) -> bool:
        """Whether the server has answered another request since the last failure, which then counts."""
        if evidence.last_pass < self.last_failure:
            return False
        if not self.last_counts:
            self.alone.append(self.last_failure)
            self._unconfirmed = 0
        return True

    def at_fault(self, evidence: Evidence, settled: float, odds: float) -> bool:
        """Whether the failures since one of those that count are too many, over ``settled`` seconds, to be chance."""
        for place, since in enumerate(self.alone):
            if self.alone[-1] - since < settled:
                return False
            healed, passes = evidence.healed_since(since), evidence.passes_since(since)
            chance = ((healed + 1) / (healed + passes + 2)) ** (len(self.alone) - place)
            if chance < odds:
                return True
        return False
