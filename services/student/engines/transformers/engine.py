"""The student on Hugging Face transformers, in this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from pathlib import Path

import torch

from services.student.engines.base import UNWATCHED, Answers, Conversation, Scored, Watcher, WeightsLost, check_room
from services.student.engines.low_priority import in_quiet_thread
from services.student.engines.score_check import misalignment
from services.student.engines.transformers.in_place import prepare_in_place
from services.student.engines.transformers.loading import load_checked
from shared.contracts import SmokeAnswer
from shared.errors import Unavailable
from shared.serving.batcher import ModelThread
from shared.serving.prompts import check_length, encoder_of
from shared.serving.work import AnswerWork, Fitting, Prepared, Serving, StreamPiece
from shared.settings import StudentSettings
from shared.vlm.image_features import FeatureReuse
from shared.vlm.loading import LoadedModel
from shared.vlm.sampling import Sampling
from shared.vlm.scoring import Score, score_batch

log = logging.getLogger(__name__)
MIXED_VERSIONS_TRIES = 3


class TransformersEngine:
    """Implements `Engine`. Prompts are prepared on their own threads; one thread runs the model."""

    def __init__(self, settings: StudentSettings, version: str, loaded: LoadedModel, watcher: Watcher) -> None:
        self._settings, self._watcher = settings, watcher
        self._preparing = ThreadPoolExecutor(
            2, "student-prepare", initializer=torch.set_num_threads, initargs=(settings.torch_threads,)
        )
        self._held: Serving | None = None
        self._score_trouble = ""
        self._in_preparation = 0
        self._model = ModelThread(
            self._serving(version, loaded),
            service="student",
            max_batch=settings.student_max_batch,
            max_wait=settings.student_max_wait.total_seconds(),
            check_room=partial(check_room, limit=settings.student_queue_size),
            torch_threads=settings.torch_threads,
            on_batch=watcher.batch,
        )

    @classmethod
    async def start(
        cls,
        settings: StudentSettings,
        version: str,
        folder: Path,
        smoke: SmokeAnswer | None,
        watcher: Watcher = UNWATCHED,
    ) -> TransformersEngine:
        """An engine that serves ``folder``; raises BadCheckpoint."""
        loaded = await in_quiet_thread(load_checked, settings, folder, smoke)
        engine = cls(settings, version, loaded, watcher)
        try:
            engine._score_trouble = await in_quiet_thread(misalignment, loaded)
        except BaseException:
            await engine.close()
            raise
        if engine._score_trouble:
            log.error("Scores are off: %s", engine._score_trouble, extra={"checkpoint": version})
        return engine

    @property
    def version(self) -> str:
        return self._model.serving.version

    @property
    def serving(self) -> Serving:
        """The checkpoint that answers: its version and model, which always belong together."""
        return self._model.serving

    @property
    def queued(self) -> int:
        return self._in_preparation + self._model.queued

    @property
    def alive(self) -> bool:
        return self._model.alive

    @property
    def trouble(self) -> str:
        return "" if self.alive else "The model's thread has ended: restart the service."

    async def answer(self, conversation: Conversation, samplings: Sequence[Sampling]) -> Answers:
        prepared = await self._prepare(conversation, max(s.max_tokens for s in samplings))
        version, answers = await self._model.answers(AnswerWork(prepared, samplings))
        return Answers(version, answers)

    def submit(self, work: AnswerWork) -> None:
        """Queue work on a prompt that is already prepared; its ``done`` holds the outcome. Raises Busy, Unavailable."""
        self._model.submit(work)

    async def stream(self, conversation: Conversation, samplings: Sequence[Sampling]) -> AsyncGenerator[StreamPiece]:
        prepared = await self._prepare(conversation, max(s.max_tokens for s in samplings))
        async with aclosing(self._model.stream(prepared, samplings)) as pieces:
            async for piece in pieces:
                yield piece

    @property
    def score_trouble(self) -> str:
        return self._score_trouble

    async def score(self, items: Sequence[tuple[Conversation, Sequence[str]]]) -> Scored:
        prepared = [await self._prepare(conversation, 0) for conversation, _ in items]
        return await self.score_prepared([(p, answers) for p, (_, answers) in zip(prepared, items, strict=True)])

    async def score_prepared(self, items: Sequence[tuple[Fitting, Sequence[str]]]) -> Scored:
        """As ``score``, for prompts that are already prepared."""
        pairs = [(prompt, answer) for prompt, answers in items for answer in answers]
        size = self._settings.student_max_batch
        for _ in range(MIXED_VERSIONS_TRIES):
            found = [await self._score_batch(pairs[start : start + size]) for start in range(0, len(pairs), size)]
            versions = {version for version, _ in found}
            if len(versions) == 1:
                flat = iter(score for _, scores in found for score in scores)
                return Scored(versions.pop(), [[next(flat) for _ in answers] for _, answers in items])
        raise Unavailable("The checkpoint changed repeatedly while this was scored: retry.", retry_after=1.0)

    async def swap(self, version: str, folder: Path, smoke: SmokeAnswer | None) -> None:
        if self._settings.student_swap == "in_place":
            await self._swap_in_place(version, folder, smoke)
            return
        self._held = None  # there are never three checkpoints in memory
        serving = self._model.serving.loaded
        loaded = await in_quiet_thread(load_checked, self._settings, folder, smoke, like=serving)
        await self._switch(self._serving(version, loaded))

    async def switch_back(self, version: str) -> bool:
        held = self._held
        if held is None or held.version != version:
            return False
        await self._switch(held)
        return True

    async def close(self) -> None:
        await asyncio.to_thread(self._model.close)
        self._preparing.shutdown(wait=False)

    async def _swap_in_place(self, version: str, folder: Path, smoke: SmokeAnswer | None) -> None:
        replacement = await in_quiet_thread(prepare_in_place, self._settings, self._model.serving.loaded, folder, smoke)

        def overwrite(serving: Serving) -> None:
            serving.features.clear()
            try:
                loaded = replacement.overwrite(serving.loaded)
            except WeightsLost:
                self._model.abort()
                raise
            self._model.switch(self._serving(version, loaded))
            log.info("Overwrote %s with %s", serving.version, version, extra={"checkpoint": version})

        await self._model.call(overwrite, always=True)

    def _serving(self, version: str, loaded: LoadedModel) -> Serving:
        return Serving(version, loaded, FeatureReuse(self._settings.student_feature_cache, self._watcher.images))

    async def _switch(self, serving: Serving) -> None:
        """From the assignment on the switch has happened, even if the caller stops waiting for the old one to drain."""
        old = self._model.serving
        drained = self._model.switch(serving)
        self._held = old if self._settings.student_keep_previous else None
        log.info("Switched from %s to %s", old.version, serving.version, extra={"checkpoint": serving.version})
        await asyncio.to_thread(drained.wait)
        old.features.clear()

    async def _prepare(self, conversation: Conversation, max_tokens: int) -> Prepared:
        self._model.check_room(self._in_preparation)
        serving = self._model.serving
        encoder = encoder_of(conversation.messages, conversation.images)
        self._in_preparation += 1
        try:
            encoded = await asyncio.get_running_loop().run_in_executor(self._preparing, encoder, serving.loaded)
        finally:
            self._in_preparation -= 1
        check_length(encoded.length, max_tokens, serving.loaded.max_length)
        return Prepared(encoder, encoded, serving)

    async def _score_batch(self, pairs: Sequence[tuple[Fitting, str]]) -> tuple[str, list[Score]]:
        def call(serving: Serving) -> tuple[str, list[Score]]:
            fitted = [(p.fit(serving), answer) for p, answer in pairs]
            return serving.version, score_batch(serving.loaded, fitted, collate=serving.features.collate)

        scored: tuple[str, list[Score]] = await self._model.call(call)
        return scored
