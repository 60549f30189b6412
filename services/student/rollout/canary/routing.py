"""Which checkpoint answers a request: the active one or, for a share of the requests, the canary's candidate.

A hash of the conversation selects the share, so the same request gets the same version on every replica and at every
retry. If the candidate fails a request, the active version answers it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram

from services.student.engines.base import Answers, Conversation, Engine
from services.student.rollout.canary.agreement import Comparer
from services.student.rollout.canary.candidate import Candidate
from services.student.rollout.canary.counts import VersionTally
from shared.checkpoints.canaries import NOT_SERVED
from shared.errors import InvalidInput, NotFound
from shared.serving.work import StreamPiece
from shared.vlm.generation import Generated
from shared.vlm.sampling import Sampling

log = logging.getLogger(__name__)


class Router:
    """Answers questions with the engine that ``active`` returns at that moment, or with the candidate's."""

    def __init__(self, active: Callable[[], Engine], metrics: CollectorRegistry) -> None:
        self._active = active
        self.candidate: Candidate | None = None
        self._comparer = Comparer(active)
        self._answers = Counter(
            "mpa_student_answers", "Questions answered or failed", ("version", "outcome"), registry=metrics
        )
        self._seconds = Histogram("mpa_student_answer_seconds", "Time to answer", ("version",), registry=metrics)

    async def answer(self, conversation: Conversation, samplings: Sequence[Sampling]) -> Answers:
        """As Engine.answer."""
        candidate = await self._chosen(conversation)
        if candidate is not None:
            with candidate.in_use():
                try:
                    answered = await self._candidates(candidate, conversation, samplings)
                except InvalidInput:
                    raise
                except Exception:
                    _warn(candidate)
                else:
                    self._comparer.offer(candidate, conversation, samplings, answered.answers)
                    return answered
        started = time.perf_counter()
        with self._failures(self._active().version):
            answered = await self._active().answer(conversation, samplings)
        self._succeeded(answered.version, started)
        return answered

    async def stream(self, conversation: Conversation, samplings: Sequence[Sampling]) -> AsyncGenerator[StreamPiece]:
        """As Engine.stream. After the first piece, a failure of the candidate fails the request."""
        candidate = await self._chosen(conversation)
        begun = False
        if candidate is not None:
            with candidate.in_use():
                try:
                    async with aclosing(self._candidates_pieces(candidate, conversation, samplings)) as pieces:
                        async for piece in pieces:
                            begun = True
                            yield piece
                    return
                except InvalidInput:
                    raise
                except Exception:
                    if begun:
                        raise
                    _warn(candidate)
        started, version = time.perf_counter(), self._active().version
        with self._failures(version):
            async with aclosing(self._active().stream(conversation, samplings)) as pieces:
                async for piece in pieces:
                    version = piece.version
                    yield piece
        self._succeeded(version, started)

    def engine_for(self, version: str) -> Engine:
        """The engine that serves exactly this version. Raises NotFound if none does."""
        engines = [self._active(), *([self.candidate.engine] if self.candidate else [])]
        for engine in engines:
            if engine.version == version:
                return engine
        raise NotFound(
            f"Version {version!r} {NOT_SERVED}; {engines[0].version} is: ask for that, leave '@…' out of the "
            f"model's name, or activate {version} first."
        )

    async def aclose(self) -> None:
        await self._comparer.aclose()

    async def _chosen(self, conversation: Conversation) -> Candidate | None:
        """The candidate, if this request belongs to its share. Large images are hashed off the event loop."""
        if self.candidate is None or self.candidate.canary.is_private:
            return None
        if not await asyncio.to_thread(self.candidate.chooses, conversation):
            return None
        return self.candidate

    async def _candidates(
        self, candidate: Candidate, conversation: Conversation, samplings: Sequence[Sampling]
    ) -> Answers:
        started = time.perf_counter()
        with self._failures(candidate.engine.version):
            answered = await candidate.engine.answer(conversation, samplings)
        self._succeeded(answered.version, started)
        return answered

    async def _candidates_pieces(
        self, candidate: Candidate, conversation: Conversation, samplings: Sequence[Sampling]
    ) -> AsyncGenerator[StreamPiece]:
        started, answers = time.perf_counter(), dict[int, Generated]()
        with self._failures(candidate.engine.version):
            async with aclosing(candidate.engine.stream(conversation, samplings)) as pieces:
                async for piece in pieces:
                    if piece.answer is not None:
                        answers[piece.choice] = piece.answer
                    yield piece
        self._succeeded(candidate.engine.version, started)
        self._comparer.offer(candidate, conversation, samplings, [answers[choice] for choice in sorted(answers)])

    @contextmanager
    def _failures(self, version: str) -> Iterator[None]:
        """Count the requests that a version fails. An invalid or abandoned request does not count."""
        try:
            yield
        except InvalidInput:
            raise
        except Exception:
            self._answers.labels(version, "failed").inc()
            if (tally := self._tally_of(version)) is not None:
                tally.errors += 1
            raise

    def _succeeded(self, version: str, started: float) -> None:
        seconds = time.perf_counter() - started
        self._answers.labels(version, "answered").inc()
        self._seconds.labels(version).observe(seconds)
        if (tally := self._tally_of(version)) is not None:
            tally.latencies.observe(seconds)

    def _tally_of(self, version: str) -> VersionTally | None:
        """The counts of ``version`` in the canary; None if it does not take part in one."""
        if self.candidate is None:
            return None
        canary, tally = self.candidate.canary, self.candidate.tally
        return {canary.version: tally.candidate, canary.baseline: tally.active}.get(version)


def _warn(candidate: Candidate) -> None:
    log.warning(
        "The candidate %s failed a request; the active version answers it",
        candidate.canary.version,
        exc_info=True,
        extra={"checkpoint": candidate.canary.version},
    )
