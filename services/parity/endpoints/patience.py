"""Calls one server until it answers. Its bad minute makes a call wait; only evidence ends one without an answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.parity.endpoints.candidate_student import NeverServed
from services.parity.endpoints.evidence import ODDS, ODDS_IN_WORDS, Call, Evidence, RetryPolicy, Trial
from services.parity.endpoints.failures import REFUSING, Failure, read_failure, same_words, words_of
from services.parity.endpoints.limiter import Limiter
from shared.errors import MPAError, Unavailable, UpstreamError

log = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R", covariant=True)

WARN_EVERY = 30.0
BEFORE_ALL_OTHERS = float("-inf")


class RequestRefused(MPAError):
    """The server answers other requests but not this one; ``detail`` says why.

    ``in_words``: the server objected to the request; otherwise it only failed on it.
    """

    status, slug, title = 502, "request-refused", "A model server refused a request"

    def __init__(self, detail: str, *, in_words: bool = True) -> None:
        super().__init__(detail)
        self.in_words = in_words


@dataclass(frozen=True)
class Route(Generic[R]):
    """How one request is sent. ``harmless``: another one, which any server answers that has this route.

    ``optional``: the server may lack the route.
    """

    call: Callable[[], Awaitable[R]]
    evidence: Evidence
    harmless: Call
    optional: bool = False


class PatientCaller:
    """``waiting_for``: why nothing is answered at present, in words; ``changed`` is set whenever that changes.

    ``alive``: the route that every server of this kind has.
    """

    def __init__(
        self, name: str, url: str, calls: Limiter, changed: asyncio.Event, policy: RetryPolicy, alive: Route[object]
    ) -> None:
        self.waiting_for: str | None = None
        self._name, self._url, self._calls, self._changed = name, url, calls, changed
        self._policy, self._alive = policy, alive
        self._failures_since_success = 0
        self._warned = float("-inf")

    async def until_answered(
        self, route: Route[T], rank: float, ends_at_once: Callable[[str], bool] = lambda _: False
    ) -> T:
        """Ask until there is an answer. Raises RequestRefused if the evidence says that this request is at fault.

        ``ends_at_once``: whether a refusal in these words is raised without evidence.
        """
        trial, turned_away, refusals = Trial(), 0, set[str]()
        while True:
            if route.evidence.lacking:
                raise RequestRefused(route.evidence.lacking)
            began = time.monotonic()
            try:
                reply = await self._once(route.call, rank)
            except NeverServed:
                raise
            except (Unavailable, UpstreamError) as error:
                if error.upstream_status in REFUSING and ends_at_once(words_of(error)):
                    raise self._refusal(error, trial, Failure.REFUSAL) from error
                self._failed(error)
                failure = read_failure(error, optional=route.optional)
                if failure is Failure.TURNED_AWAY:
                    turned_away += 1
                    longest = error.retry_after or self._policy.longest_turned_away
                    await asyncio.sleep(min(longest, self._pause(turned_away, error.retry_after)))
                    continue
                if failure is Failure.REFUSAL:
                    refusals.add(same_words(error))
                trial.failed()
                # A route that the server lacks passes nothing, so the others are asked.
                others: Route[object] = self._alive if failure is Failure.NOT_OFFERED else route
                await self._wait(trial, others.evidence, error.retry_after)
                await self._look_at_others(trial, others.evidence, others.harmless)
                if self._at_fault(trial, others.evidence, failure, error):
                    self._note(route, failure, error)
                    raise self._refusal(error, trial, failure) from error
            else:
                route.evidence.passed(began, route.call, trial.alone, refusals)
                self._succeeded()
                return reply

    async def _once(self, call: Callable[[], Awaitable[T]], rank: float) -> T:
        async with self._calls.slot(rank) as slot:
            try:
                reply = await call()
            except Unavailable as error:
                asked = error.retry_after
                slot.overloaded(None if asked is None else min(asked, self._policy.longest_asked))
                raise
            slot.answered()
            return reply

    async def _wait(self, trial: Trial, evidence: Evidence, asked: float | None) -> None:
        """Pause after a failure. A request that has not failed alone yet asks again as soon as others pass."""
        pause = max(self._pause(trial.tries), self._pause(1, asked))
        if trial.alone:
            await asyncio.sleep(pause)
            return
        least = min(pause, self._pause(1, asked))
        await asyncio.sleep(least)
        await evidence.wait_for_pass(trial.last_failure, pause - least)

    async def _look_at_others(self, trial: Trial, evidence: Evidence, harmless: Call) -> None:
        """Count the failure if others passed since. If there are no others, a probe finds out."""
        if trial.confirmed(evidence) or not trial.needs_probe:
            return

        async def ask(known_good: Call | None) -> object:
            return await self._once(known_good or harmless, BEFORE_ALL_OTHERS)

        await evidence.probe(trial.last_failure, ask, self._policy.pauses)
        trial.confirmed(evidence)

    def _at_fault(self, trial: Trial, evidence: Evidence, failure: Failure, error: Unavailable | UpstreamError) -> bool:
        # Words about the input count for less while the server sends them to requests that pass in the end.
        if failure is Failure.OUTAGE or not evidence.well:
            return trial.at_fault(evidence, self._policy.settled, ODDS)
        known = failure is Failure.REFUSAL and evidence.is_proven(same_words(error))
        return (known and trial.last_counts) or trial.at_fault(evidence, self._policy.settled_in_words, ODDS_IN_WORDS)

    def _note(self, route: Route[T], failure: Failure, error: Unavailable | UpstreamError) -> None:
        if failure is Failure.REFUSAL:
            route.evidence.prove(same_words(error))
        elif failure is Failure.NOT_OFFERED:
            route.evidence.note_lacking(error.detail)

    def _refusal(self, error: Unavailable | UpstreamError, trial: Trial, failure: Failure) -> RequestRefused:
        if failure is not Failure.OUTAGE:
            return RequestRefused(f"The {self._name} refused the request: {error.detail}")
        tries = f"{trial.tries} tries in {trial.seconds:.0f} s"
        words = f"The {self._name} answered other requests but never this one ({tries}): {error.detail}"
        return RequestRefused(words, in_words=False)

    def _pause(self, tries: int, asked: float | None = None) -> float:
        if asked is not None:
            return min(asked, self._policy.longest_asked)
        return self._policy.pauses.delay(tries)

    def _failed(self, error: Unavailable | UpstreamError) -> None:
        self._failures_since_success += 1
        if self._failures_since_success == 2:
            # Once in a while, because a server that fails now and then would fill the log.
            if time.monotonic() - self._warned > WARN_EVERY:
                log.warning("Waiting for the %s at %s: %s", self._name, self._url, error.detail)
                self._warned = time.monotonic()
            self._say(f"{self._name} at {self._url}: {error.detail}")

    def _succeeded(self) -> None:
        self._failures_since_success = 0
        if self.waiting_for is not None:
            log.debug("The %s at %s answers again.", self._name, self._url)
            self._say(None)

    def _say(self, waiting_for: str | None) -> None:
        self.waiting_for = waiting_for
        self._changed.set()
