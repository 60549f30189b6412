"""Questions and scores for one vLLM server: which requests may enter, what it is asked, and what it replies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from services.student.engines.base import Answers, Conversation, Scored, Watcher, check_room
from services.student.engines.vllm.adapters import Served
from services.student.engines.vllm.gate import SwapGate
from services.student.engines.vllm.server import VllmChild
from services.student.engines.vllm.wire import Growing, chat_body, read_answer, read_score, score_body
from shared.concurrency import run_all
from shared.escapes import Escapes, write_messages
from shared.literal import escapes_of, marks_of
from shared.serving.work import StreamPiece
from shared.settings import StudentSettings
from shared.vlm.generation import Generated
from shared.vlm.prompting import completion_ids, render_with
from shared.vlm.sampling import Sampling
from shared.vlm.scoring import Score

Pick = Callable[[], Served]
"""Chooses what answers a request, when the request passes the gate."""


class VllmRequests:
    """Requests pass ``gate`` together; at most MPA_STUDENT_QUEUE_SIZE of them are in progress."""

    def __init__(
        self,
        settings: StudentSettings,
        child: VllmChild,
        processor: Any,
        eos: tuple[int, ...],
        watcher: Watcher,
    ) -> None:
        """``processor`` and end tokens ``eos`` are those that vLLM starts with, so all checkpoints share them."""
        self.gate = SwapGate()
        self.in_work = 0
        self._limit, self._child, self._watcher = settings.student_queue_size, child, watcher
        self._processor, self._eos = processor, eos

    async def answer(self, pick: Pick, conversation: Conversation, samplings: Sequence[Sampling]) -> Answers:
        with self._counted():
            async with self.gate.passing():
                served = pick()
                self._watcher.batch(len(samplings), ())
                with served.in_use():
                    answers = await run_all(
                        *(self.one_answer(served, conversation, sampling) for sampling in samplings)
                    )
        return Answers(served.version, list(answers))

    async def stream(
        self, pick: Pick, conversation: Conversation, samplings: Sequence[Sampling]
    ) -> AsyncGenerator[StreamPiece]:
        pieces: asyncio.Queue[StreamPiece | None] = asyncio.Queue()
        with self._counted():
            async with self.gate.passing():
                served = pick()
                self._watcher.batch(len(samplings), ())
                with served.in_use():
                    streams = (
                        self._stream(served, conversation, sampling, choice, pieces)
                        for choice, sampling in enumerate(samplings)
                    )
                    whole = asyncio.create_task(run_all(*streams))
                    whole.add_done_callback(lambda _: pieces.put_nowait(None))
                    try:
                        while (piece := await pieces.get()) is not None:
                            yield piece
                        await whole
                    finally:
                        whole.cancel()
                        await asyncio.wait({whole})

    async def score(self, pick: Pick, items: Sequence[tuple[Conversation, Sequence[str]]]) -> Scored:
        with self._counted():
            async with self.gate.passing():
                served = pick()
                with served.in_use():
                    scores = [
                        list(await run_all(*(self.one_score(served, conversation, text) for text in texts)))
                        for conversation, texts in items
                    ]
        return Scored(served.version, scores)

    async def one_answer(self, served: Served, conversation: Conversation, sampling: Sampling) -> Generated:
        """Ask without the gate and the limit: for callers that have passed both, or need neither."""
        body = self._written(chat_body(served.model, conversation, sampling))
        return read_answer(await self._child.chat(body), self._eos)

    async def one_score(self, served: Served, conversation: Conversation, answer: str) -> Score:
        """As `one_answer`. Raises Misaligned."""
        reply = await self._child.chat(self._written(score_body(served.model, conversation, answer)))
        prompt = render_with(self._processor, conversation.messages, conversation.images)
        ids = completion_ids(self._processor, self._eos, prompt, answer)
        return read_score(reply, answer, ids, [self._processor.tokenizer.decode([token]) for token in ids])

    async def _stream(
        self,
        served: Served,
        conversation: Conversation,
        sampling: Sampling,
        choice: int,
        pieces: asyncio.Queue[StreamPiece | None],
    ) -> None:
        growing, usage = Growing(self._eos), {"prompt_tokens": 0, "completion_tokens": 0}
        body = self._written(chat_body(served.model, conversation, sampling))
        async with contextlib.aclosing(self._child.stream(body)) as chunks:
            async for chunk in chunks:
                usage = chunk.get("usage") or usage
                for part in chunk["choices"]:
                    piece = growing.add(part, part["delta"].get("content") or "")
                    if piece.text or piece.tokens:
                        pieces.put_nowait(StreamPiece(served.version, choice, piece=piece))
        pieces.put_nowait(StreamPiece(served.version, choice, answer=growing.answer(usage)))

    def _written(self, body: dict[str, Any]) -> dict[str, Any]:
        """``body`` with its texts as vLLM's tokenizer has to get them. Raises InvalidInput for a special token that it
        would not read as text.
        """
        known = escapes_of(self._processor.tokenizer)
        escapes = known if self._child.server.reads_escapes else Escapes("", marks_of(self._processor.tokenizer))
        return {**body, "messages": write_messages(body["messages"], escapes.write)}

    @contextmanager
    def _counted(self) -> Iterator[None]:
        check_room(self.in_work, self._limit)
        self.in_work += 1
        try:
            yield
        finally:
            self.in_work -= 1
