"""One replica among others: it follows the registry, reports its state, and shows the rollout over all replicas.

The registry is the truth, and a replica reads it every few seconds. Redis only adds speed (a message wakes the replica)
and width (the state and counts of the other replicas). Without Redis, a replica still serves, swaps and follows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from services.student.rollout.canary.control import CanaryControl
from services.student.rollout.canary.counts import Tally, total
from services.student.rollout.canary.routing import Router
from services.student.rollout.swap import Rollout, StartEngine
from shared.checkpoints import CheckpointRegistry
from shared.checkpoints.canaries import CanaryRegistry
from shared.concurrency import end_loops
from shared.contracts import Canary, CanaryReport, CanaryState, ReplicaInfo, RolloutView
from shared.errors import MPAError, Unavailable
from shared.processes.names import process_name
from shared.settings import StudentSettings
from shared.state.replicas import ReplicaBoard
from shared.store import Store

log = logging.getLogger(__name__)
BEATS_IN_TIMEOUT = 5
RECONNECT_SECONDS = 1.0


class Replica:
    """``board``: None if no Redis is configured; then this is the only replica."""

    def __init__(
        self,
        registry: CheckpointRegistry,
        rollout: Rollout,
        canary: CanaryControl,
        board: ReplicaBoard | None,
        *,
        address: str,
        follow_every: timedelta,
        replica_timeout: timedelta,
    ) -> None:
        self.id = process_name()
        self.rollout, self.canary = rollout, canary
        self._registry, self._board, self._address = registry, board, address
        self._follow_every = follow_every.total_seconds()
        self._timeout = replica_timeout
        self._started_at = datetime.now(UTC)
        self._look, self._beat = asyncio.Event(), asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._board_loops: set[asyncio.Task[None]] = set()
        self._board_answers: bool | None = None
        rollout.after_move = canary.after_change = self._tell

    def start(self) -> None:
        self._spawn(self._follow())
        if self._board is not None:
            self._board_loops = {
                asyncio.create_task(self._listen(self._board)),
                asyncio.create_task(self._announce(self._board)),
            }

    async def aclose(self) -> None:
        """Stop following the registry, and leave the list of replicas."""
        for task in self._tasks:
            task.cancel()
        await end_loops(self._board_loops)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.canary.aclose()
        if self._board is not None:
            with suppress(Unavailable):
                await self._publish_counts(self._board)
                await self._board.leave(self.id)
            await self._board.aclose()

    async def view(self) -> RolloutView:
        """Which version each replica serves. The other replicas are shown as they last reported."""
        pointer = await asyncio.to_thread(self._registry.active)
        replicas, complete = await self._replicas()
        canary = await self.canary.latest()
        candidate = canary.version if canary is not None and canary.state is CanaryState.RUNNING else None
        return RolloutView(
            student=self._registry.student,
            active=pointer,
            converged=all(r.version == pointer.version and r.candidate == candidate for r in replicas),
            replicas=replicas,
            complete=complete,
            canary=None if canary is None else await self.report(canary),
        )

    async def report(self, canary: Canary) -> CanaryReport:
        """The canary with the counts of all replicas."""
        tally, complete = await self._counts(canary.id)
        running = canary.state is CanaryState.RUNNING
        decision = self.canary.decision(canary, tally, complete=complete)
        return CanaryReport(
            canary=canary,
            active=tally.active.stats(canary.baseline),
            candidate=tally.candidate.stats(canary.version),
            compared=tally.compared,
            agreement=tally.agreement,
            verdict=f"{decision.action}: {decision.reason}" if running else "",
        )

    def info(self) -> ReplicaInfo:
        """This replica now."""
        candidate = self.canary.candidate
        return ReplicaInfo(
            id=self.id,
            address=self._address,
            version=self.rollout.engine.version,
            generation=self.rollout.generation,
            candidate=None if candidate is None else candidate.canary.version,
            problem=" ".join(filter(None, (self.rollout.problem, self.canary.problem))),
            queued=self.rollout.engine.queued,
            started_at=self._started_at,
            seen_at=datetime.now(UTC),
        )

    # ------------------------------------------------------------ following

    async def _follow(self) -> None:
        while True:
            await _first(self._look, self._follow_every)
            for step in (self.canary.converge, self.rollout.converge, self._decide):
                try:
                    await step()
                except MPAError as error:
                    log.error("Cannot follow the registry: %s", error.detail)
                except Exception:  # a store may raise anything, and the next attempt may succeed
                    log.exception("The registry cannot be read")
            self._beat.set()

    async def _decide(self) -> None:
        candidate = self.canary.candidate
        if candidate is None or candidate.canary.rule is None:
            return
        tally, complete = await self._counts(candidate.canary.id)
        await self.canary.act(self.canary.decision(candidate.canary, tally, complete=complete))

    async def _listen(self, board: ReplicaBoard) -> None:
        while True:
            try:
                async for _ in board.told():
                    self._look.set()
            except Unavailable as error:
                self._heard(error)
            await asyncio.sleep(RECONNECT_SECONDS)

    # ------------------------------------------------------------ reporting

    async def _announce(self, board: ReplicaBoard) -> None:
        every = self._timeout.total_seconds() / BEATS_IN_TIMEOUT
        while True:
            try:
                await board.announce(self.info(), self._timeout)
                await self._publish_counts(board)
                self._heard(None)
            except Unavailable as error:
                self._heard(error)
            await _first(self._beat, every)

    async def _publish_counts(self, board: ReplicaBoard) -> None:
        if self.canary.counted is not None:
            canary, tally = self.canary.counted
            await board.count(canary, self.id, tally.dump())

    def _tell(self) -> None:
        """Something changed here: wake the other replicas, and announce this one."""
        self._beat.set()
        if self._board is not None:
            self._spawn(self._push(self._board))

    async def _push(self, board: ReplicaBoard) -> None:
        try:
            await board.tell()
        except Unavailable as error:
            log.warning(
                "The other replicas were not woken (%s): they read the registry within seconds anyway", error.detail
            )

    def _heard(self, error: Unavailable | None) -> None:
        """Log once when Redis becomes unavailable and once when it is back."""
        answers = error is None
        if answers != self._board_answers:
            if error is not None:
                log.warning("%s This replica goes on serving and following the registry.", error.detail)
            elif self._board_answers is not None:
                log.info("Redis answers again")
        self._board_answers = answers

    # ------------------------------------------------------------ the other replicas

    async def _replicas(self) -> tuple[list[ReplicaInfo], bool]:
        mine = self.info()
        if self._board is None:
            return [mine], True
        try:
            found = {info.id: info for info in await self._board.replicas()}
        except Unavailable:
            return [mine], False
        found[self.id] = mine
        return [found[name] for name in sorted(found)], True

    async def _counts(self, canary: str) -> tuple[Tally, bool]:
        """The counts of all replicas, and whether all could be read. This replica's own are current."""
        mine = self.canary.counted[1] if self.canary.counted and self.canary.counted[0] == canary else Tally()
        if self._board is None:
            return total([mine]), True
        try:
            found = await self._board.counts(canary)
        except Unavailable:
            return total([mine]), False
        return total([mine, *_loaded(text for name, text in found.items() if name != self.id)]), True

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def build_replica(
    settings: StudentSettings,
    store: Store,
    registry: CheckpointRegistry,
    rollout: Rollout,
    router: Router,
    start_engine: StartEngine,
) -> Replica:
    """A replica as the settings describe it."""
    canary = CanaryControl(
        CanaryRegistry(store, settings.student_name),
        rollout,
        router,
        start_engine,
        registry.active,
        drain_timeout=settings.student_request_timeout,
        swap_timeout=settings.student_swap_timeout,
    )
    board = ReplicaBoard.from_url(settings.redis_url, settings.student_name) if settings.redis_url else None
    return Replica(
        registry,
        rollout,
        canary,
        board,
        address=f"{settings.host}:{settings.student_port}",
        follow_every=settings.student_follow_every,
        replica_timeout=settings.student_replica_timeout,
    )


async def _first(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, ``seconds`` at most, and clear it."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    event.clear()


def _loaded(texts: Iterable[str]) -> list[Tally]:
    """The counts that can be read. Those of a replica of another release are left out."""
    found = []
    for text in texts:
        with suppress(ValueError):
            found.append(Tally.load(text))
    return found
