"""The student on vLLM: a supervised server whose weights are overwritten in place, or used with an adapter."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

from services.student.engines.base import UNWATCHED, Answers, Conversation, Engine, Scored, Watcher
from services.student.engines.checkpoint import check_stored_finite
from services.student.engines.vllm.adapters import Adapters, Served, Unadaptable, adapter_of
from services.student.engines.vllm.canary import VllmCandidate
from services.student.engines.vllm.files import check_same_start, end_ids, read_start
from services.student.engines.vllm.requests import VllmRequests
from services.student.engines.vllm.server import RETRY_AFTER, VllmChild
from services.student.engines.vllm.smoke import check_smoke, find_misalignment
from shared.contracts import SmokeAnswer
from shared.errors import BadCheckpoint, MPAError, Unavailable
from shared.serving.work import StreamPiece
from shared.settings import StudentSettings
from shared.vlm.loading import load_processor
from shared.vlm.sampling import Sampling

log = logging.getLogger(__name__)
START_POLL = 0.2
START_TRIES = 2


class VllmEngine:
    """Implements `Engine`.

    If a checkpoint has an adapter of vLLM's current weights, the adapter is loaded and the next requests name it. For
    any other checkpoint the engine waits for the running answers, overwrites the weights and lets the next requests in.
    """

    def __init__(
        self,
        settings: StudentSettings,
        version: str,
        folder: Path,
        processor: Any,
        watcher: Watcher,
    ) -> None:
        """Reads small files of ``folder``; ``processor`` is its own."""
        self._settings, self._started_with = settings, read_start(folder)
        self._weights = self._serving = Served(version, folder, settings.student_name)
        self._previous: Served | None = None
        self._changing = asyncio.Lock()
        self._score_trouble = ""
        self._child = VllmChild(settings, lambda: self._weights.folder, lambda: self._adapters.restore())
        self._adapters = Adapters(self._child, settings.student_name)
        eos = end_ids(folder, processor.tokenizer.eos_token_id)
        self._requests = VllmRequests(settings, self._child, processor, eos, watcher)

    @classmethod
    async def start(
        cls,
        settings: StudentSettings,
        version: str,
        folder: Path,
        smoke: SmokeAnswer | None,
        watcher: Watcher = UNWATCHED,
    ) -> VllmEngine:
        """An engine that serves ``folder``; raises BadCheckpoint."""
        await asyncio.to_thread(check_stored_finite, folder)
        processor = await asyncio.to_thread(load_processor, folder, trust_remote_code=settings.trust_remote_code)
        engine = cls(settings, version, folder, processor, watcher)
        try:
            await engine._child.server.start()
            await engine._until_ready()
            if smoke is not None:
                await engine._check_smoke(engine._serving, smoke)
            exact = settings.student_dtype == "float32"
            engine._score_trouble = await find_misalignment(engine._requests, engine._serving, exact=exact)
        except BaseException:
            await engine.close()
            raise
        return engine

    @property
    def version(self) -> str:
        return self._serving.version

    @property
    def queued(self) -> int:
        return self._requests.in_work

    @property
    def alive(self) -> bool:
        return self._child.server.ready

    @property
    def trouble(self) -> str:
        """Why it is not alive, in words."""
        return self._child.server.reason

    @property
    def score_trouble(self) -> str:
        return self._score_trouble

    async def metrics(self) -> bytes:
        """vLLM's own metrics, which know how long requests wait in its queue."""
        return await self._child.metrics()

    async def answer(self, conversation: Conversation, samplings: Sequence[Sampling]) -> Answers:
        return await self._requests.answer(lambda: self._serving, conversation, samplings)

    def stream(self, conversation: Conversation, samplings: Sequence[Sampling]) -> AsyncGenerator[StreamPiece]:
        return self._requests.stream(lambda: self._serving, conversation, samplings)

    async def score(self, items: Sequence[tuple[Conversation, Sequence[str]]]) -> Scored:
        return await self._requests.score(lambda: self._serving, items)

    async def swap(self, version: str, folder: Path, smoke: SmokeAnswer | None) -> None:
        await asyncio.to_thread(check_same_start, self._started_with, folder)
        given_up = asyncio.Event()
        swapping = asyncio.create_task(self._swap(version, folder, smoke, given_up))
        try:
            await asyncio.shield(swapping)
        except asyncio.CancelledError:
            # Weights must never stay half overwritten: the task goes on, and puts the old ones back.
            given_up.set()
            swapping.add_done_callback(lambda task: task.cancelled() or task.exception())
            raise

    async def switch_back(self, version: str) -> bool:
        """Switch to the current weights without an adapter, or to the previous adapter: only these are in memory."""
        async with self._changing:
            for held in (self._weights, self._previous):
                if held is not None and held.version == version:
                    self._switch(held)
                    return True
        return False

    async def beside(self, version: str, folder: Path, smoke: SmokeAnswer | None) -> Engine:
        """An engine for a canary: its adapter beside the active checkpoint, in the same vLLM.

        Raises BadCheckpoint if it has no adapter that fits, since one vLLM holds only one copy of the weights.
        """
        await asyncio.to_thread(check_same_start, self._started_with, folder)
        async with self._changing:
            try:
                served = await self._load_adapter(version, folder, smoke)
            except Unadaptable as error:
                raise BadCheckpoint(
                    f"{version} cannot be a canary on vLLM, which has one set of weights and takes candidates as LoRA "
                    f"adapters of it: {error.detail} Activate {version}, or use MPA_STUDENT_ENGINE=transformers."
                ) from error
        return VllmCandidate(self, self._requests, self._adapters, served)

    async def close(self) -> None:
        await self._adapters.close()
        await self._child.close()

    async def _swap(self, version: str, folder: Path, smoke: SmokeAnswer | None, given_up: asyncio.Event) -> None:
        async with self._changing:
            started, old = time.monotonic(), self.version
            try:
                served = await self._load_adapter(version, folder, smoke)
            except Unadaptable as error:
                log.info("%s is swapped as whole weights: %s", version, error.detail, extra={"checkpoint": version})
                await self._overwrite(version, folder, smoke, given_up)
                how = "Overwrote the weights of"
            else:
                if given_up.is_set():
                    self._adapters.drop(served)
                    return
                self._switch(served)
                how = "Loaded an adapter alongside"
            seconds = time.monotonic() - started
            log.info("%s %s with %s in %.2f s", how, old, version, seconds, extra={"checkpoint": version})

    async def _load_adapter(self, version: str, folder: Path, smoke: SmokeAnswer | None) -> Served:
        """An adapter that answers as its card says. If it raises Unadaptable, nothing has changed."""
        if not self.alive:
            raise Unavailable(self.trouble, retry_after=RETRY_AFTER)
        if not self._settings.student_vllm_lora:
            raise Unadaptable("MPA_STUDENT_VLLM_LORA is off.")
        card = await asyncio.to_thread(adapter_of, folder)
        if card is None:
            raise Unadaptable(f"{version} was not trained as an adapter.")
        if card.base != self._weights.version:
            raise Unadaptable(f"its adapter belongs to {card.base}, vLLM has the weights of {self._weights.version}.")
        if self._adapters.full and self._previous is not None:
            self._adapters.drop(self._previous)
            self._previous = None
        served = await self._adapters.load(version, folder)
        if smoke is not None:
            try:
                await self._check_smoke(served, smoke)
            except BaseException as error:
                self._adapters.drop(served)
                if isinstance(error, BadCheckpoint):  # merging may have rounded its weights
                    raise Unadaptable(error.detail) from error
                raise
        return served

    def _switch(self, served: Served) -> None:
        """Let ``served`` answer the requests that pass the gate from now on."""
        old, self._serving = self._serving, served
        if self._previous is not None and self._previous is not served:
            self._adapters.drop(self._previous)
        self._previous = old if self._settings.student_keep_previous else None
        if self._previous is None:
            self._adapters.drop(old)

    async def _overwrite(self, version: str, folder: Path, smoke: SmokeAnswer | None, given_up: asyncio.Event) -> None:
        await asyncio.to_thread(check_stored_finite, folder)
        if problem := await self._child.why_not(folder):
            raise BadCheckpoint(f"{folder} cannot be loaded in place: {problem}. {self.version} goes on serving.")
        candidate = Served(version, folder, self._settings.student_name)
        async with self._requests.gate.closed():
            if given_up.is_set():
                return
            problem = await self._child.reload(folder) or await self._wrong_smoke(candidate, smoke)
            if problem or given_up.is_set():
                died = not self.alive
                await self._put_back(problem or "the swap took too long")
                if died:
                    raise Unavailable(f"vLLM died while {version} was loaded ({problem}): retry.", retry_after=5.0)
                raise BadCheckpoint(
                    f"{folder} could not be loaded in place: {problem}. {self.version} goes on serving."
                )
            self._weights = self._serving = candidate
            self._previous = None
            self._adapters.forget_all()

    async def _put_back(self, reason: str) -> None:
        try:
            problem = await self._child.reload(self._weights.folder) or await self._adapters.restore()
        except Unavailable as error:  # it is being restarted, with the old weights
            problem = error.detail
        if problem:
            log.error("Neither the new nor the old weights load in place (%s): restarting vLLM", problem)
            await self._child.server.restart(f"could not read {self.version} back ({problem})")
        else:
            log.warning("Read %s back: %s", self.version, reason, extra={"checkpoint": self.version})

    async def _wrong_smoke(self, served: Served, smoke: SmokeAnswer | None) -> str:
        try:
            if smoke is not None:
                await self._check_smoke(served, smoke)
        except MPAError as error:
            return error.detail
        return ""

    async def _check_smoke(self, served: Served, smoke: SmokeAnswer) -> None:
        await check_smoke(self._requests, served, smoke, exact=self._settings.student_dtype == "float32")

    async def _until_ready(self) -> None:
        deadline = time.monotonic() + self._settings.student_ready_timeout.total_seconds()
        server = self._child.server
        while not server.ready:
            if time.monotonic() > deadline or server.restarts >= START_TRIES:
                raise BadCheckpoint(f"vLLM does not serve {self._weights.folder}: {server.reason}")
            await asyncio.sleep(START_POLL)
