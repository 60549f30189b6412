"""Whether both versions of a canary gave the same answers, with an active version that says what a test decides."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.student.engines.base import Conversation, Engine
from services.student.rollout.canary.agreement import Comparer
from services.student.rollout.canary.candidate import Candidate
from services.student.rollout.canary.counts import Tally
from shared.contracts import Canary, CanaryState
from shared.vlm.generation import Generated
from shared.vlm.sampling import Sampling

NOW = datetime.now(UTC)
CANARY = Canary(
    id="c",
    revision=0,
    student="student",
    version="new",
    baseline="base",
    share=1.0,
    compare=1.0,
    rule=None,
    state=CanaryState.RUNNING,
    started_by="me",
    started_at=NOW,
    changed_by="me",
    changed_at=NOW,
)


def said(texts: Sequence[str]) -> list[Generated]:
    return [cast(Generated, SimpleNamespace(text=text)) for text in texts]


class Active:
    """The active version's engine. It waits until it is told what to answer."""

    queued = 0

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    async def answer(self, *_: Any) -> SimpleNamespace:
        await asyncio.sleep(0)
        return SimpleNamespace(version="base", answers=said(self.texts))


@pytest.mark.parametrize(
    ("active", "candidate", "agreed"),
    [
        (["café"], ["Cafe\u0301."], 1),
        (["don\u2019t walk"], ["Don't walk"], 1),
        (["3 dogs"], ["three dogs"], 1),
        (["1990"], ["2015"], 0),
        (["104"], ["100"], 0),
        (["red", "blue"], ["red", "green"], 0),
        (["red", "blue"], ["red"], 0),
        ([""], [""], 1),
    ],
)
async def test_answers_agree_whatever_their_spelling(active: list[str], candidate: list[str], agreed: int) -> None:
    comparer = Comparer(lambda: cast(Engine, Active(active)))
    tally = Tally()
    beside = Candidate(cast(Engine, None), CANARY, tally)
    for _ in range(3):
        comparer.offer(beside, cast(Conversation, None), [Sampling(max_tokens=4)], said(candidate))
    while comparer._pending:
        await asyncio.wait(comparer._pending)
    assert (tally.compared, tally.agreed) == (3, 3 * agreed)
