"""Which checkpoint serves: start, swap, rollback, and convergence to the registry's active pointer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from services.student.engines.base import Engine
from services.student.engines.low_priority import in_quiet_thread
from shared.checkpoints import BASE_VERSION, CheckpointRegistry, describe_difference, read_tensor_table, verify_folder
from shared.contracts import ActivePointer, CheckpointCard, CheckpointList, SmokeAnswer, SwapResult
from shared.errors import BadCheckpoint, NotFound, Unavailable
from shared.telemetry.tracing import span

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verified:
    """A checkpoint whose files match its card."""

    version: str
    folder: Path
    smoke: SmokeAnswer | None


StartEngine = Callable[[Verified], Coroutine[Any, Any, Engine]]


class Rollout:
    """Owns the engine's version. Swaps happen one at a time, and a failed one changes nothing.

    ``problem`` says why another version than the registry's active one serves; empty if the active one does.
    ``generation`` is that of the active pointer that this replica last followed. ``after_move`` is called after this
    replica moved the pointer, ``on_swap`` with the result of a swap (swapped, refused, failed) and its seconds.
    """

    def __init__(self, registry: CheckpointRegistry, engine: Engine, *, timeout: timedelta, problem: str = "") -> None:
        self._registry, self.engine, self.problem = registry, engine, problem
        self._timeout = timeout.total_seconds()
        self._lock = asyncio.Lock()
        self._refused: int | None = None
        self.generation: int | None = None
        self.after_move: Callable[[], None] = lambda: None
        self.on_swap: Callable[[str, float], None] = lambda _result, _seconds: None

    @classmethod
    async def start(
        cls, registry: CheckpointRegistry, base: Path, start_engine: StartEngine, *, timeout: timedelta
    ) -> Rollout:
        """Register the base model if the registry is empty. Serve the active version, or else the previous one, or
        else the base.
        """
        await asyncio.to_thread(registry.register_base, base)
        pointer = await asyncio.to_thread(registry.active)
        problems: list[str] = []
        for version in dict.fromkeys([pointer.version, pointer.previous, BASE_VERSION]):
            if version is None:
                continue
            try:
                engine = await start_engine(await asyncio.to_thread(verify, registry, version))
            except (BadCheckpoint, NotFound) as error:
                log.error("Checkpoint %s cannot serve: %s", version, error.detail, extra={"checkpoint": version})
                problems.append(f"{version} cannot serve: {error.detail}")
                continue
            rollout = cls(registry, engine, timeout=timeout, problem=" ".join(problems))
            rollout.generation = pointer.generation
            rollout._refused = pointer.generation if problems else None
            return rollout
        raise BadCheckpoint("No checkpoint can serve. " + " ".join(problems))

    @asynccontextmanager
    async def exclusive(self, seconds: float | None = None) -> AsyncIterator[float]:
        """A lock for everything that loads a checkpoint, so that one load happens at a time.

        Yields the deadline (event loop time), which is ``seconds`` from now and at most the swap timeout. Raises
        Unavailable if others hold the lock that long.
        """
        allowed = min(seconds or self._timeout, self._timeout)
        deadline = asyncio.get_running_loop().time() + allowed
        try:
            async with asyncio.timeout_at(deadline):
                await self._lock.acquire()
        except TimeoutError as error:
            raise Unavailable(
                f"Other swaps took all of the {allowed:g} s that were allowed; nothing changed: retry.", retry_after=1.0
            ) from error
        try:
            yield deadline
        finally:
            self._lock.release()

    async def activate(self, version: str, by: str, seconds: float | None = None) -> SwapResult:
        """Serve ``version`` and make it the registry's active one, within ``seconds``. Idempotent."""
        started = time.perf_counter()
        async with self.exclusive(seconds) as deadline:
            previous = self.engine.version
            changed = await self._serve(version, deadline)
            pointer = await asyncio.to_thread(self._registry.active)
            if pointer.version != version:
                pointer = await asyncio.to_thread(self._registry.set_active, version, by)
            self._followed(pointer)
        self.after_move()
        return SwapResult(version=version, previous=previous, changed=changed, seconds=time.perf_counter() - started)

    async def rollback(self, by: str) -> SwapResult:
        """Serve the version that was active before the current one."""
        started = time.perf_counter()
        async with self.exclusive() as deadline:
            pointer = await asyncio.to_thread(self._registry.active)
            if pointer.previous is None:
                raise NotFound(f"There is no version before {pointer.version} to roll back to.")
            previous = self.engine.version
            changed = await self._serve(pointer.previous, deadline)
            self._followed(await asyncio.to_thread(self._registry.rollback, by))
            version = self.engine.version
        self.after_move()
        return SwapResult(version=version, previous=previous, changed=changed, seconds=time.perf_counter() - started)

    async def checkpoints(self) -> CheckpointList:
        return await asyncio.to_thread(self._registry.list)

    async def converge(self) -> None:
        """Serve the registry's active version if another replica moved the pointer.

        Raises BadCheckpoint if it cannot serve. Then it is not tried again until the pointer moves.
        """
        async with self.exclusive() as deadline:
            pointer = await asyncio.to_thread(self._registry.active)
            if pointer.generation == self._refused:
                return
            try:
                await self._serve(pointer.version, deadline)
            except (BadCheckpoint, NotFound) as error:
                self.problem, self._refused = f"{pointer.version} cannot serve: {error.detail}", pointer.generation
                raise
            self._followed(pointer)

    def _followed(self, pointer: ActivePointer) -> None:
        self.generation, self.problem, self._refused = pointer.generation, "", None

    async def load_beside(self, version: str, start_engine: StartEngine, deadline: float) -> Engine:
        """A second engine for ``version``, checked as a swap would check it. The caller holds ``exclusive``."""
        try:
            async with asyncio.timeout_at(deadline):
                return await start_engine(await self._checked(version))
        except TimeoutError as error:
            raise self._too_slow(version) from error

    async def _serve(self, version: str, deadline: float) -> bool:
        """Make the engine serve ``version``. Returns whether that changed anything."""
        if version == self.engine.version:
            return False
        result, started = "failed", time.perf_counter()
        try:
            with span("swap", {"mpa.checkpoint": version}):
                await self._swapped(version, deadline)
            result = "swapped"
        except (BadCheckpoint, NotFound):
            result = "refused"
            raise
        finally:
            self.on_swap(result, time.perf_counter() - started)
        return True

    async def _swapped(self, version: str, deadline: float) -> None:
        if await self.engine.switch_back(version):
            return
        try:
            async with asyncio.timeout_at(deadline):
                candidate = await self._checked(version)
                await self.engine.swap(version, candidate.folder, candidate.smoke)
        except TimeoutError as error:
            if self.engine.version == version:  # it has switched, and only waits for the old one's last batch
                return
            raise self._too_slow(version) from error

    async def _checked(self, version: str) -> Verified:
        candidate = await in_quiet_thread(verify, self._registry, version)
        await in_quiet_thread(self._check_architecture, candidate)
        return candidate

    def _too_slow(self, version: str) -> Unavailable:
        return Unavailable(
            f"Loading {version} took longer than the request's deadline_seconds, or than the "
            f"{self._timeout:.0f} s of MPA_STUDENT_SWAP_TIMEOUT; "
            f"{self.engine.version} goes on serving.",
            retry_after=1.0,
        )

    def _check_architecture(self, candidate: Verified) -> None:
        serving = read_tensor_table(self._registry.local(self.engine.version))
        difference = describe_difference(serving, read_tensor_table(candidate.folder))
        if difference is not None:
            raise BadCheckpoint(
                f"{candidate.version} has another shape than the serving {self.engine.version}: {difference}. "
                "Start a separate student service for another architecture."
            )


def verify(registry: CheckpointRegistry, version: str) -> Verified:
    """Check files against the card. Raises NotFound for an unknown version, BadCheckpoint for a damaged one."""
    card: CheckpointCard = registry.card(version)
    folder = registry.local(version)
    verify_folder(folder, card)
    return Verified(version, folder, card.smoke)
