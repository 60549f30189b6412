"""A canary's candidate on vLLM: an adapter beside the active checkpoint, in the same server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from services.student.engines.base import Answers, Conversation, Engine, Scored
from services.student.engines.vllm.adapters import Adapters, Served
from services.student.engines.vllm.requests import VllmRequests
from shared.contracts import SmokeAnswer
from shared.errors import BadCheckpoint, Unavailable
from shared.serving.work import StreamPiece
from shared.vlm.sampling import Sampling


class VllmCandidate:
    """Implements `Engine` for one adapter on ``host``'s vLLM. It cannot be swapped."""

    def __init__(self, host: Engine, requests: VllmRequests, adapters: Adapters, served: Served) -> None:
        self._host, self._requests, self._adapters, self._served = host, requests, adapters, served

    @property
    def version(self) -> str:
        return self._served.version

    @property
    def queued(self) -> int:
        return self._host.queued

    @property
    def alive(self) -> bool:
        return self._host.alive and self._adapters.holds(self._served)

    @property
    def trouble(self) -> str:
        return self._host.trouble or ("" if self.alive else self._gone)

    @property
    def score_trouble(self) -> str:
        return self._host.score_trouble

    async def answer(self, conversation: Conversation, samplings: Sequence[Sampling]) -> Answers:
        return await self._requests.answer(self._pick, conversation, samplings)

    def stream(self, conversation: Conversation, samplings: Sequence[Sampling]) -> AsyncGenerator[StreamPiece]:
        return self._requests.stream(self._pick, conversation, samplings)

    async def score(self, items: Sequence[tuple[Conversation, Sequence[str]]]) -> Scored:
        return await self._requests.score(self._pick, items)

    async def swap(self, version: str, folder: Path, smoke: SmokeAnswer | None) -> None:
        raise BadCheckpoint(f"{self.version} is a canary's candidate: start another canary to replace it.")

    async def switch_back(self, version: str) -> bool:
        return False

    async def close(self) -> None:
        """Drop the adapter when its last request is done. The server stays."""
        self._adapters.drop(self._served)

    @property
    def _gone(self) -> str:
        return f"{self.version} is no longer a candidate: it was closed, or the weights that it adapts were swapped."

    def _pick(self) -> Served:
        if not self._adapters.holds(self._served):
            raise Unavailable(f"{self._gone} Ask again.", retry_after=1.0)
        return self._served
