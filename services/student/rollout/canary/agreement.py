"""Whether the active version gives the same answers as the canary's candidate, asked in the background."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence

from services.student.engines.base import Conversation, Engine
from services.student.rollout.canary.candidate import Candidate
from shared.vlm.generation import Generated
from shared.vlm.sampling import Sampling
from shared.vqa.agreement import agree

log = logging.getLogger(__name__)
MOST_PENDING = 8
BUSY_QUEUE = 16


class Comparer:
    """Asks the active engine what the candidate was asked. It skips requests when that engine is busy."""

    def __init__(self, active: Callable[[], Engine]) -> None:
        self._active = active
        self._pending: set[asyncio.Task[None]] = set()

    def offer(
        self,
        candidate: Candidate,
        conversation: Conversation,
        samplings: Sequence[Sampling],
        answers: Sequence[Generated],
    ) -> None:
        """Compare the answers if they are greedy (sampled ones differ by chance) and there is room."""
        if any(sampling.temperature > 0 for sampling in samplings) or random.random() >= candidate.canary.compare:
            return
        if len(self._pending) >= MOST_PENDING or self._active().queued >= BUSY_QUEUE:
            return
        task = asyncio.create_task(self._compare(candidate, conversation, samplings, [a.text for a in answers]))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def aclose(self) -> None:
        for task in self._pending:
            task.cancel()
        await asyncio.gather(*self._pending, return_exceptions=True)

    async def _compare(
        self, candidate: Candidate, conversation: Conversation, samplings: Sequence[Sampling], texts: Sequence[str]
    ) -> None:
        try:
            answered = await self._active().answer(conversation, samplings)
        except Exception as error:  # the active version's own requests report what is wrong with it
            log.debug("A comparison was dropped: %s", error)
            return
        if answered.version != candidate.canary.baseline:
            return
        same = await asyncio.to_thread(_all_agree, [a.text for a in answered.answers], list(texts))
        candidate.tally.compared += 1
        candidate.tally.agreed += same


def _all_agree(ones: Sequence[str], others: Sequence[str]) -> bool:
    return len(ones) == len(others) and all(agree(one, other) for one, other in zip(ones, others, strict=True))
