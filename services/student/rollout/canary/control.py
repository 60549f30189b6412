"""The canary on one replica: loads the candidate beside the active version, counts, and promotes or aborts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from services.student.engines.base import Engine
from services.student.rollout.canary.candidate import Candidate
from services.student.rollout.canary.counts import Tally
from services.student.rollout.canary.routing import Router
from services.student.rollout.canary.rule import Decision, decide
from services.student.rollout.swap import Rollout, StartEngine
from shared.checkpoints.canaries import CanaryRegistry
from shared.contracts import ActivePointer, Canary, CanaryRequest, CanaryState, SwapResult
from shared.errors import BadCheckpoint, Conflict, MPAError, NotFound

log = logging.getLogger(__name__)
PROMOTION_MARGIN = timedelta(seconds=30)
BY_RULE = "rule"


class CanaryControl:
    """Follows the registry's canary record. ``problem`` says why this replica does not serve the canary's candidate.

    ``counted`` is (canary id, counts) of the candidate that serves, or of the last one.
    """

    def __init__(
        self,
        registry: CanaryRegistry,
        rollout: Rollout,
        router: Router,
        start_engine: StartEngine,
        active: Callable[[], ActivePointer],
        *,
        drain_timeout: timedelta,
        swap_timeout: timedelta,
    ) -> None:
        self._registry, self._rollout, self._router = registry, rollout, router
        self._start_engine, self._active = start_engine, active
        self._drain_timeout = drain_timeout.total_seconds()
        self._promotion_lasts = swap_timeout + PROMOTION_MARGIN
        self._refused: str | None = None
        self._changing = asyncio.Lock()
        self.problem = ""
        self.counted: tuple[str, Tally] | None = None
        self.after_change: Callable[[], None] = lambda: None

    @property
    def candidate(self) -> Candidate | None:
        return self._router.candidate

    async def latest(self) -> Canary | None:
        return await asyncio.to_thread(self._registry.latest)

    async def start(self, request: CanaryRequest) -> Canary:
        """Load the candidate here and begin its canary on all replicas. A running canary gets the new share and rule.

        Raises Conflict if the version is active or another canary runs, NotFound and BadCheckpoint as a swap does.
        """
        async with self._changing, self._rollout.exclusive() as deadline:
            pointer = await asyncio.to_thread(self._active)
            if request.version == pointer.version:
                raise Conflict(f"{request.version} is already active: a canary needs another version.")
            if self._rollout.engine.version != pointer.version:
                raise Conflict(f"This replica does not serve {pointer.version} yet: retry when it has converged.")
            latest = await self.latest()
            running = latest if latest is not None and not latest.state.is_final else None
            if running is not None and running.version != request.version:
                raise Conflict(
                    f"The canary of {running.version} is {running.state} (share {running.share:g}, begun by "
                    f"{running.started_by}): promote or abort it first."
                )
            serving = self.candidate
            if serving is not None and running is not None and serving.canary.id == running.id:
                canary = await asyncio.to_thread(self._registry.start, request, pointer.version)
                self._adopt(canary)
            else:
                await self._stop_candidate()
                engine = await self._rollout.load_beside(request.version, self._start_engine, deadline)
                try:
                    canary = await asyncio.to_thread(self._registry.start, request, pointer.version)
                except BaseException:
                    await engine.close()
                    raise
                self._begin(engine, canary)
        self.after_change()
        return canary

    async def promote(self, by: str, reason: str) -> SwapResult:
        """Make the candidate the active version. If it cannot serve alone, the canary is aborted with the reason."""
        async with self._changing:
            canary = await self._running()
            await asyncio.to_thread(self._registry.move, canary.id, CanaryState.PROMOTING, by, reason)
            try:
                await self._stop_candidate()  # makes room for the copy that the swap loads
                result = await self._rollout.activate(canary.version, by)
            except MPAError as error:
                await self._end(canary, CanaryState.ABORTED, by, f"could not be promoted: {error.detail}")
                raise
            except BaseException:
                await self._end(
                    canary, CanaryState.ABORTED, by, "the promotion was interrupted: start the canary again"
                )
                raise
            await self._end(canary, CanaryState.PROMOTED, by, reason)
            return result

    async def abort(self, by: str, reason: str) -> Canary:
        """Send all requests to the active version again; the candidate stays in the registry."""
        async with self._changing:
            canary = await self._running()
            ended = await asyncio.to_thread(self._registry.move, canary.id, CanaryState.ABORTED, by, reason)
            self.after_change()
            await self._stop_candidate()
            return ended

    async def converge(self) -> None:
        """Do on this replica what the registry's record says. Raises BadCheckpoint if the candidate cannot serve."""
        async with self._changing:
            canary = await self.latest()
            if canary is not None and not canary.state.is_final:
                canary = await self._settled(canary)
            if canary is None or canary.state.is_final:
                await self._stop_candidate()
                self.problem = ""
            elif canary.state is CanaryState.RUNNING and self._rollout.engine.version == canary.baseline:
                await self._serve_beside(canary)

    def decision(self, canary: Canary, tally: Tally, *, complete: bool) -> Decision:
        """What the rule decides from ``tally``, the sum over replicas, or this one's counts if not ``complete``."""
        if canary.rule is None:
            return Decision("wait", "no rule: promote or abort it by a call")
        age = (datetime.now(UTC) - canary.started_at).total_seconds()
        return decide(canary.rule, tally, age=age, complete=complete)

    async def act(self, decision: Decision) -> None:
        """Carry out what the rule decided. Another replica may have done so already, which is fine."""
        try:
            if decision.action == "promote":
                await self.promote(BY_RULE, decision.reason)
            elif decision.action == "abort":
                await self.abort(BY_RULE, decision.reason)
        except (Conflict, NotFound) as error:
            log.info("The rule's decision came too late: %s", error.detail)

    async def aclose(self) -> None:
        await self._stop_candidate()
        await self._router.aclose()

    async def _running(self) -> Canary:
        canary = await self.latest()
        if canary is None or canary.state is not CanaryState.RUNNING:
            state = "was never one" if canary is None else f"of {canary.version} is {canary.state} ({canary.reason})"
            raise Conflict(f"No canary runs: the latest {state}.")
        return canary

    async def _settled(self, canary: Canary) -> Canary:
        """End a canary that is out of date: the pointer moved, or the replica that promoted it has ended."""
        pointer = await asyncio.to_thread(self._active)
        if pointer.version == canary.version:
            return await self._end(canary, CanaryState.PROMOTED, pointer.promoted_by, "it was made active")
        if pointer.version != canary.baseline:
            words = f"{pointer.version} became active, so the comparison with {canary.baseline} is over"
            return await self._end(canary, CanaryState.ABORTED, pointer.promoted_by, words)
        if canary.expires_at is not None and datetime.now(UTC) > canary.expires_at:
            return await self._end(
                canary, CanaryState.ABORTED, canary.started_by, "it was not renewed before it expired"
            )
        stale = datetime.now(UTC) - canary.changed_at > self._promotion_lasts
        if canary.state is CanaryState.PROMOTING and stale:
            words = "the replica that promoted it ended before it was done: start it again"
            return await self._end(canary, CanaryState.ABORTED, canary.changed_by, words)
        return canary

    async def _end(self, canary: Canary, state: CanaryState, by: str, reason: str) -> Canary:
        try:
            ended = await asyncio.to_thread(self._registry.move, canary.id, state, by, reason)
        except Conflict:
            ended = await self.latest() or canary
        self.after_change()
        return ended

    async def _serve_beside(self, canary: Canary) -> None:
        serving = self.candidate
        if serving is not None and serving.canary.id == canary.id and serving.engine.alive:
            self._adopt(canary)
            return
        await self._stop_candidate()
        if canary.id == self._refused:
            return
        async with self._rollout.exclusive() as deadline:
            try:
                engine = await self._rollout.load_beside(canary.version, self._start_engine, deadline)
            except (BadCheckpoint, NotFound) as error:
                self._refused, self.problem = canary.id, f"The canary {canary.version} cannot serve: {error.detail}"
                raise
            self._begin(engine, canary)

    def _begin(self, engine: Engine, canary: Canary) -> None:
        """Send the candidate its share. If a candidate of the same canary served before, its counts go on."""
        if self.counted is None or self.counted[0] != canary.id:
            self.counted = (canary.id, Tally())
        self._router.candidate = Candidate(engine, canary, self.counted[1])
        self._refused, self.problem = None, ""

    def _adopt(self, canary: Canary) -> None:
        """Use a new share, comparison or rule."""
        assert self.candidate is not None
        self.candidate.canary = canary

    async def _stop_candidate(self) -> None:
        """Send it no more requests, let it finish the running ones, and free its memory."""
        candidate = self._router.candidate
        if candidate is None:
            return
        self._router.candidate = None
        if not await candidate.drained(self._drain_timeout):
            log.warning("The candidate %s is closed while requests are running", candidate.canary.version)
        try:
            await candidate.engine.close()
        except MPAError as error:
            log.warning("The candidate %s did not close cleanly: %s", candidate.canary.version, error.detail)
