"""Which checkpoint serves: start, swap, rollback, and following the registry's active pointer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from services.student.engine import Engine
from shared.checkpoints import BASE_VERSION, CheckpointRegistry, describe_difference, read_tensor_table, verify_folder
from shared.contracts import CheckpointCard, CheckpointList, SmokeAnswer, SwapResult
from shared.errors import BadCheckpoint, MPAError, NotFound, Unavailable

log = logging.getLogger(__name__)
FOLLOW_SECONDS = 5.0


@dataclass(frozen=True)
class Verified:
    """A checkpoint whose files are what its card says."""

    version: str
    folder: Path
    smoke: SmokeAnswer | None


StartEngine = Callable[[Verified], Coroutine[Any, Any, Engine]]


class Rollout:
    """Owns the engine's version. Swaps are serialised; a failed one changes nothing.

    ``problem`` says why something other than the registry's active version serves, empty if nothing does.
    """

    def __init__(self, registry: CheckpointRegistry, engine: Engine, *, timeout: timedelta, problem: str = "") -> None:
        self._registry, self.engine, self.problem = registry, engine, problem
        self._timeout = timeout.total_seconds()
        self._lock = asyncio.Lock()
        self._refused: str | None = None

    @classmethod
    async def start(
        cls, registry: CheckpointRegistry, base: Path, start_engine: StartEngine, *, timeout: timedelta
    ) -> Rollout:
        """Register the base model if the registry is empty, and serve the active version, else the previous, else the
        base.
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
            return cls(registry, engine, timeout=timeout, problem=" ".join(problems))
        raise BadCheckpoint("No checkpoint can serve. " + " ".join(problems))

    async def activate(self, version: str, by: str) -> SwapResult:
        """Serve ``version`` and make it the registry's active one. Idempotent."""
        async with self._lock:
            started = time.perf_counter()
            previous = self.engine.version
            changed = await self._serve(version)
            pointer = await asyncio.to_thread(self._registry.active)
            if pointer.version != version:
                await asyncio.to_thread(self._registry.set_active, version, by)
            self.problem, self._refused = "", None
            return SwapResult(
                version=version, previous=previous, changed=changed, seconds=time.perf_counter() - started
            )

    async def rollback(self, by: str) -> SwapResult:
        """Serve the version that was active before the present one."""
        async with self._lock:
            started = time.perf_counter()
            pointer = await asyncio.to_thread(self._registry.active)
            if pointer.previous is None:
                raise NotFound(f"There is no version before {pointer.version} to roll back to.")
            previous = self.engine.version
            changed = await self._serve(pointer.previous)
            await asyncio.to_thread(self._registry.rollback, by)
            self.problem = ""
            return SwapResult(
                version=self.engine.version, previous=previous, changed=changed, seconds=time.perf_counter() - started
            )

    async def checkpoints(self) -> CheckpointList:
        return await asyncio.to_thread(self._registry.list)

    async def follow(self) -> None:
        """Converge to the registry's active version when someone else moves it; runs until cancelled."""
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            try:
                await self._converge()
            except MPAError as error:
                log.error("Cannot follow the registry: %s", error.detail)
            except Exception:  # whatever a store raises, the next look may go well
                log.exception("The registry cannot be read")

    async def _converge(self) -> None:
        async with self._lock:
            wanted = (await asyncio.to_thread(self._registry.active)).version
            if wanted in (self.engine.version, self._refused) or self.problem.startswith(f"{wanted} cannot serve"):
                return
            try:
                await self._serve(wanted)
            except BadCheckpoint as error:
                self.problem, self._refused = f"{wanted} cannot serve: {error.detail}", wanted
                raise

    async def _serve(self, version: str) -> bool:
        """Make the engine serve ``version``; returns whether anything changed."""
        if version == self.engine.version:
            return False
        if await self.engine.switch_back(version):
            return True
        try:
            async with asyncio.timeout(self._timeout):
                candidate = await asyncio.to_thread(verify, self._registry, version)
                await asyncio.to_thread(self._check_architecture, candidate)
                await self.engine.swap(version, candidate.folder, candidate.smoke)
        except TimeoutError as error:
            if self.engine.version == version:  # switched; only the old one's last batch takes its time
                return True
            raise Unavailable(
                f"Loading {version} took longer than {self._timeout:.0f} s (MPA_STUDENT_SWAP_TIMEOUT); "
                f"{self.engine.version} goes on serving."
            ) from error
        return True

    def _check_architecture(self, candidate: Verified) -> None:
        serving = read_tensor_table(self._registry.local(self.engine.version))
        difference = describe_difference(serving, read_tensor_table(candidate.folder))
        if difference is not None:
            raise BadCheckpoint(
                f"{candidate.version} is of another shape than {self.engine.version}, which serves: {difference}. "
                "Start a student service of its own for another architecture."
            )


def verify(registry: CheckpointRegistry, version: str) -> Verified:
    """Check files against the card; raises NotFound for an unknown version, BadCheckpoint for a damaged one."""
    card: CheckpointCard = registry.card(version)
    folder = registry.local(version)
    verify_folder(folder, card)
    return Verified(version, folder, card.smoke)
