"""The student on vLLM: a supervised server whose weights are overwritten in place."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from services.student.engine import Answered, Question, Scored
from services.student.swap_gate import SwapGate
from services.student.vllm_child import VllmChild
from services.student.vllm_wire import Growing, Misaligned, chat_body, read_answer, read_score, score_body
from services.student.work import StreamPiece
from shared.checkpoint_files import weight_files
from shared.checkpoints import SMOKE_TOKENS
from shared.contracts import ChatMessage, ImagePart, ImageURL, SmokeAnswer, TextPart
from shared.errors import BadCheckpoint, Busy, MPAError, Unavailable
from shared.images import to_data_url
from shared.settings import StudentSettings
from shared.vlm.loading import load_processor
from shared.vlm.prompting import completion_ids, render_with
from shared.vlm.sampling import Sampling
from shared.vlm.score_check import COARSE, QUESTIONS, TOLERANCE, grey_image, largest_gap
from shared.vlm.scoring import Score

log = logging.getLogger(__name__)
START_POLL = 0.2
START_TRIES = 2


class VllmEngine:
    """Implements `Engine`. A swap waits for the answers in flight, overwrites the weights and lets the next ones in."""

    def __init__(self, settings: StudentSettings, version: str, folder: Path, on_batch: Callable[[int], None]) -> None:
        self._settings, self._version, self._folder = settings, version, folder
        self._on_batch = on_batch
        self._gate = SwapGate()
        self._waiting = 0
        self._score_trouble = ""
        self._child = VllmChild(settings, lambda: self._folder)
        self._read_folder()

    @classmethod
    async def start(
        cls,
        settings: StudentSettings,
        version: str,
        folder: Path,
        smoke: SmokeAnswer | None,
        on_batch: Callable[[int], None] = lambda size: None,  # noqa: ARG005
    ) -> VllmEngine:
        """An engine that serves ``folder``; raises BadCheckpoint. ``on_batch`` is told of every request's choices."""
        await asyncio.to_thread(check_finite, folder)
        engine = cls(settings, version, folder, on_batch)
        await engine._child.server.start()
        try:
            await engine._until_ready()
            if smoke is not None:
                await engine._check_smoke(smoke, folder)
            engine._score_trouble = await engine._misalignment()
        except BaseException:
            await engine.close()
            raise
        return engine

    @property
    def version(self) -> str:
        return self._version

    @property
    def queued(self) -> int:
        return self._waiting

    @property
    def alive(self) -> bool:
        return self._child.server.ready

    @property
    def trouble(self) -> str:
        """Why it is not alive, in words."""
        return self._child.server.reason

    async def answer(self, question: Question, samplings: Sequence[Sampling]) -> Answered:
        self._check_room()
        self._waiting += 1
        try:
            async with self._gate.passing():
                version = self._version
                self._on_batch(len(samplings))
                answers = await asyncio.gather(*(self._answer(question, sampling) for sampling in samplings))
        finally:
            self._waiting -= 1
        return Answered(version, answers)

    async def stream(self, question: Question, samplings: Sequence[Sampling]) -> AsyncGenerator[StreamPiece]:
        self._check_room()
        self._waiting += 1
        pieces: asyncio.Queue[StreamPiece | None] = asyncio.Queue()
        tasks: list[asyncio.Task[None]] = []
        try:
            async with self._gate.passing():
                self._on_batch(len(samplings))
                tasks += [
                    asyncio.create_task(self._stream(question, sampling, choice, pieces))
                    for choice, sampling in enumerate(samplings)
                ]
                whole = asyncio.gather(*tasks)
                whole.add_done_callback(lambda _: pieces.put_nowait(None))
                while (piece := await pieces.get()) is not None:
                    yield piece
                await whole
        finally:
            self._waiting -= 1
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def score_trouble(self) -> str:
        return self._score_trouble

    async def score(self, items: Sequence[tuple[Question, Sequence[str]]]) -> Scored:
        self._check_room()
        async with self._gate.passing():
            version = self._version
            rows = [[self._score(question, answer) for answer in answers] for question, answers in items]
            scores = [list(await asyncio.gather(*row)) for row in rows]
        return Scored(version, scores)

    async def swap(self, version: str, folder: Path, smoke: SmokeAnswer | None) -> None:
        await asyncio.to_thread(check_finite, folder)
        given_up = asyncio.Event()
        swapping = asyncio.create_task(self._swap(version, folder, smoke, given_up))
        try:
            await asyncio.shield(swapping)
        except asyncio.CancelledError:
            # Weights must never stay torn: the task goes on, and puts the old ones back.
            given_up.set()
            swapping.add_done_callback(lambda task: task.cancelled() or task.exception())
            raise

    async def switch_back(self, version: str) -> bool:
        """Never: one copy of the weights is held. A swap back takes as long as any other."""
        return False

    async def close(self) -> None:
        await self._child.close()

    async def _answer(self, question: Question, sampling: Sampling) -> Any:
        body = chat_body(self._settings.student_name, question, sampling)
        return read_answer(await self._child.chat(body), self._eos)

    async def _stream(
        self, question: Question, sampling: Sampling, choice: int, pieces: asyncio.Queue[StreamPiece | None]
    ) -> None:
        version, growing, usage = self._version, Growing(self._eos), {"prompt_tokens": 0, "completion_tokens": 0}
        async with contextlib.aclosing(
            self._child.stream(chat_body(self._settings.student_name, question, sampling))
        ) as chunks:
            async for chunk in chunks:
                usage = chunk.get("usage") or usage
                for part in chunk["choices"]:
                    piece = growing.add(part, part["delta"].get("content") or "")
                    if piece.text or piece.tokens:
                        pieces.put_nowait(StreamPiece(version, choice, piece=piece))
        pieces.put_nowait(StreamPiece(version, choice, answer=growing.answer(usage)))

    async def _score(self, question: Question, answer: str) -> Score:
        reply = await self._child.chat(score_body(self._settings.student_name, question, answer))
        prompt = render_with(self._processor, question.messages, question.images)
        ids = completion_ids(self._processor, self._eos, prompt, answer)
        return read_score(reply, answer, ids, [self._processor.tokenizer.decode([token]) for token in ids])

    async def _misalignment(self) -> str:
        """Compare the log-probabilities that vLLM gave while it wrote an answer with those it gives to the answer."""
        file = io.BytesIO()
        grey_image().save(file, "PNG")
        image = ImagePart(type="image_url", image_url=ImageURL(url=to_data_url(file.getvalue())))
        for text in QUESTIONS:
            content = [image, TextPart(type="text", text=text)]
            question = Question((ChatMessage(role="user", content=content),), (grey_image(),))
            try:
                answer = await self._answer(question, Sampling(max_tokens=SMOKE_TOKENS))
                score = await self._score(question, answer.text)
            except Misaligned as error:
                return error.detail
            written = [token.text for token in answer.tokens]
            if written != list(score.tokens[:-1]):  # written in other tokens than the tokenizer's own
                continue
            found = score.logprobs[: len(written)]
            worst = largest_gap(found, [token.logprob for token in answer.tokens]) if written else 0.0
            if worst > (TOLERANCE[torch.float32] if self._settings.student_dtype == "float32" else COARSE):
                return f"the answer {answer.text!r} is scored {worst:.3g} nats off what it was written with"
        return ""

    async def _swap(self, version: str, folder: Path, smoke: SmokeAnswer | None, given_up: asyncio.Event) -> None:
        started = time.monotonic()
        async with self._gate.closed():
            if given_up.is_set():
                return
            problem = await self._child.reload(folder)
            if not problem and smoke is not None:
                problem = await self._wrong_smoke(smoke, folder)
            if problem or given_up.is_set():
                died = not self.alive
                await self._put_back(problem or "the swap took too long")
                if died:
                    raise Unavailable(f"vLLM died while {version} was loaded ({problem}): retry.", retry_after=5.0)
                raise BadCheckpoint(
                    f"{folder} could not be loaded in place: {problem}. {self._version} goes on serving."
                )
            old, self._version, self._folder = self._version, version, folder
            self._read_folder()
        seconds = time.monotonic() - started
        log.info("Overwrote %s with %s in %.2f s", old, version, seconds, extra={"checkpoint": version})

    async def _put_back(self, reason: str) -> None:
        try:
            problem = await self._child.reload(self._folder)
        except Unavailable as error:  # it is not ready, so it is being restarted, with the old weights
            problem = error.detail
        if problem:
            log.error("Neither new nor old weights load in place (%s): restarting vLLM", problem)
            await self._child.server.restart(f"could not read {self._version} back ({problem})")
        else:
            log.warning("Read %s back: %s", self._version, reason, extra={"checkpoint": self._version})

    async def _wrong_smoke(self, smoke: SmokeAnswer, folder: Path) -> str:
        try:
            await self._check_smoke(smoke, folder)
        except MPAError as error:
            return error.detail
        return ""

    async def _check_smoke(self, smoke: SmokeAnswer, folder: Path) -> None:
        """Ask the card's question; the answer must be equal where this dtype is the one it was recorded with."""
        image = ImagePart(type="image_url", image_url=ImageURL(url=f"data:image/png;base64,{smoke.image_png_base64}"))
        content = [image, TextPart(type="text", text=smoke.question)]
        question = Question((ChatMessage(role="user", content=content),), ())
        answer = (await self._answer(question, Sampling(max_tokens=SMOKE_TOKENS))).text.strip()
        if self._settings.student_dtype == "float32" and answer != smoke.answer.strip():
            raise BadCheckpoint(
                f"{folder} answers {answer!r} to the smoke question {smoke.question!r}; its card says "
                f"{smoke.answer!r}. The files are not what was trained, or another library version reads them "
                "differently."
            )

    async def _until_ready(self) -> None:
        deadline = time.monotonic() + self._settings.student_ready_timeout.total_seconds()
        server = self._child.server
        while not server.ready:
            if time.monotonic() > deadline or server.restarts >= START_TRIES:
                raise BadCheckpoint(f"vLLM does not serve {self._folder}: {server.reason}")
            await asyncio.sleep(START_POLL)

    def _check_room(self) -> None:
        limit = self._settings.student_queue_size
        if self._waiting >= limit:
            raise Busy(
                f"{self._waiting} requests are in work already, the limit is {limit} (MPA_STUDENT_QUEUE_SIZE): "
                "retry later.",
                retry_after=1.0,
            )

    def _read_folder(self) -> None:
        self._processor = load_processor(self._folder, trust_remote_code=self._settings.trust_remote_code)
        self._eos = _end_ids(self._folder, self._processor.tokenizer.eos_token_id)


def check_finite(folder: Path) -> None:
    """Raises BadCheckpoint naming the weight that holds NaN or infinite values."""
    for path in weight_files(folder):
        with safe_open(path, "pt") as weights:
            for name in weights.keys():  # noqa: SIM118  # not a dict
                tensor = weights.get_tensor(name)
                if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                    raise BadCheckpoint(f"{folder}: the weight {name} holds NaN or infinite values. Train it again.")


def _end_ids(folder: Path, default: int) -> tuple[int, ...]:
    """Tokens that end an answer: those of the generation config, else the tokenizer's."""
    path = folder / "generation_config.json"
    found = json.loads(path.read_text()).get("eos_token_id") if path.exists() else None
    found = default if found is None else found
    return tuple(int(token) for token in found) if isinstance(found, list) else (int(found),)
