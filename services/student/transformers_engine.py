"""The student on Hugging Face transformers, in this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from services.student.engine import Answered, Question, Scored
from services.student.model_thread import AnswerWork, ModelThread, Serving
from shared.contracts import SmokeAnswer
from shared.errors import BadCheckpoint, InvalidInput, Unavailable
from shared.images import ImageLimits, decode_image, from_data_url
from shared.settings import StudentSettings
from shared.vlm.generation import generate_encoded
from shared.vlm.loading import LoadedModel, load_model
from shared.vlm.prompting import Encoded, encode, question_prompt, render
from shared.vlm.sampling import Sampling
from shared.vlm.scoring import score_answers

log = logging.getLogger(__name__)
SMOKE_TOKENS = 16
MIXED_VERSIONS_TRIES = 3


class TransformersEngine:
    """Implements `Engine`. Prompts are prepared on their own threads; one thread runs the model."""

    def __init__(self, settings: StudentSettings, serving: Serving) -> None:
        self._settings = settings
        self._preparing = ThreadPoolExecutor(2, thread_name_prefix="student-prepare")
        self._held: Serving | None = None
        self._model = ModelThread(
            serving,
            max_batch=settings.student_max_batch,
            max_wait=settings.student_max_wait.total_seconds(),
            queue_size=settings.student_queue_size,
            torch_threads=settings.torch_threads,
        )

    @classmethod
    async def start(
        cls, settings: StudentSettings, version: str, folder: Path, smoke: SmokeAnswer | None
    ) -> TransformersEngine:
        """An engine that serves ``folder``; raises BadCheckpoint."""
        loaded = await asyncio.to_thread(_load_checked, settings, folder, smoke)
        return cls(settings, Serving(version, loaded))

    @property
    def version(self) -> str:
        return self._model.serving.version

    @property
    def queued(self) -> int:
        return self._model.queued

    @property
    def alive(self) -> bool:
        return self._model.alive

    async def answer(self, question: Question, samplings: Sequence[Sampling]) -> Answered:
        serving = self._model.serving
        encoder = _encoder(question)
        encoded = await self._prepare(encoder, serving.loaded)
        _check_length(encoded.length, max(s.max_tokens for s in samplings), serving.loaded)
        for _ in range(MIXED_VERSIONS_TRIES):
            works = [AnswerWork(encoder, encoded, serving, sampling) for sampling in samplings]
            results = await self._model.answers(works)
            versions = {version for version, _ in results}
            if len(versions) == 1:
                return Answered(versions.pop(), [answer for _, answer in results])
        raise Unavailable("The checkpoint changed again and again while this was answered: retry.", retry_after=1.0)

    async def score(self, items: Sequence[tuple[Question, Sequence[str]]]) -> Scored:
        def call(serving: Serving) -> Scored:
            prompts = [render(serving.loaded, question.messages, question.images) for question, _ in items]
            return Scored(serving.version, score_answers(serving.loaded, prompts, [list(a) for _, a in items]))

        scored: Scored = await self._model.call(call)
        return scored

    async def swap(self, version: str, folder: Path, smoke: SmokeAnswer | None) -> None:
        loaded = await asyncio.to_thread(_load_checked, self._settings, folder, smoke)
        await self._switch(Serving(version, loaded))

    async def switch_back(self, version: str) -> bool:
        held = self._held
        if held is None or held.version != version:
            return False
        await self._switch(held)
        return True

    async def close(self) -> None:
        await asyncio.to_thread(self._model.close)
        self._preparing.shutdown(wait=False)

    async def _switch(self, serving: Serving) -> None:
        old = self._model.serving
        await asyncio.to_thread(self._model.switch, serving)
        self._held = old if self._settings.student_keep_previous else None
        log.info("Switched from %s to %s", old.version, serving.version, extra={"checkpoint": serving.version})

    async def _prepare(self, encoder: Callable[[LoadedModel], Encoded], loaded: LoadedModel) -> Encoded:
        return await asyncio.get_running_loop().run_in_executor(self._preparing, encoder, loaded)


def _encoder(question: Question) -> Callable[[LoadedModel], Encoded]:
    def encoder(loaded: LoadedModel) -> Encoded:
        return encode(loaded, render(loaded, question.messages, question.images))

    return encoder


def _check_length(prompt: int, answer: int, loaded: LoadedModel) -> None:
    if prompt + answer > loaded.max_length:
        raise InvalidInput(
            f"The prompt has {prompt} tokens and up to {answer} may be answered; the model reads at most "
            f"{loaded.max_length}: "
            "shorten the prompt or lower max_tokens."
        )


def _load_checked(settings: StudentSettings, folder: Path, smoke: SmokeAnswer | None) -> LoadedModel:
    loaded = load_model(
        folder,
        dtype=settings.student_dtype,
        device=settings.student_device,
        trust_remote_code=settings.trust_remote_code,
    )
    _check_finite(loaded.model, folder)
    if smoke is not None:
        _check_smoke(loaded, smoke, folder, exact=settings.student_dtype == "float32")
    return loaded


def _check_finite(model: Any, folder: Path) -> None:
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise BadCheckpoint(f"{folder}: the weight {name} holds NaN or infinite values. Train it again.")


def _check_smoke(loaded: LoadedModel, smoke: SmokeAnswer, folder: Path, *, exact: bool) -> None:
    """Ask the card's question; ``exact`` where this dtype is the one the answer was recorded with."""
    image = decode_image(from_data_url(f"data:image/png;base64,{smoke.image_png_base64}"), ImageLimits())
    encoded = encode(loaded, question_prompt(loaded, image, smoke.question))
    answer = generate_encoded(loaded, [encoded], [Sampling(max_tokens=SMOKE_TOKENS)])[0].text.strip()
    if exact and answer != smoke.answer.strip():
        raise BadCheckpoint(
            f"{folder} answers {answer!r} to the smoke question {smoke.question!r}; its card says {smoke.answer!r}. "
            "The files are not what was trained, or another library version reads them differently."
        )
