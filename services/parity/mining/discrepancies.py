"""What is measured of a kept pair besides the answers: confidence, the teacher's rationale, and attention.

If a model cannot report a measure, the pair is kept without it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from services.parity.endpoints.endpoint import Endpoint
from services.parity.endpoints.patience import RequestRefused
from services.parity.images.picture import Picture
from services.parity.mining.attention import AttentionMaps, AttentionMeter
from services.parity.mining.hearing import hear, mean_logprob
from services.parity.mining.pairs import NONE, Answered, Discrepancies, Tokens
from shared.client import image_question
from shared.concurrency import run_all
from shared.contracts import DiscrepancySpec, ScoreItem, ScoreRequest
from shared.discrepancies import attention_gap, confidence_gap, reasoning_gap
from shared.vqa.tasks import TaskProfile

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rationale:
    """The teacher's sentence with its mean token log-probability, and the tokens that the teacher spent on it."""

    text: str | None = None
    logprob: float | None = None
    spent: Tokens = NONE


class GapMeter:
    """Measures the kept pairs of one shard as the job's spec asks."""

    def __init__(self, teacher: Endpoint, student: Endpoint, spec: DiscrepancySpec) -> None:
        self._teacher, self._student, self._spec = teacher, student, spec
        self._attention = AttentionMeter(teacher, student, spec)
        self._warned = False

    async def measure(self, pair: Answered, picture: Picture, profile: TaskProfile) -> Discrepancies:
        """Everything that the spec asks for, rounded as it is stored."""
        measured, maps = await run_all(self._words(pair, picture, profile), self._maps(pair, picture, profile))
        known = maps.teacher is not None and maps.student is not None
        gap = attention_gap(maps.teacher or (), maps.student or ()) if known else None
        return replace(
            measured, teacher_attention=maps.teacher, student_attention=maps.student, attention_gap=rounded(gap)
        )

    async def _words(self, pair: Answered, picture: Picture, profile: TaskProfile) -> Discrepancies:
        """All measures except attention."""
        why = await self._rationale(pair, picture, profile) if self._spec.reasoning else Rationale()
        answer_logprob, rationale_logprob = await self._ask_student(pair, why, picture, profile)
        return Discrepancies(
            top=pair.top,
            student_logprob=rounded(answer_logprob),
            rationale=why.text,
            teacher_rationale_logprob=rounded(why.logprob),
            student_rationale_logprob=rounded(rationale_logprob),
            confidence_gap=_between(confidence_gap, pair.logprob, answer_logprob),
            reasoning_gap=_between(reasoning_gap, why.logprob, rationale_logprob),
            spent=why.spent,
        )

    async def _rationale(self, pair: Answered, picture: Picture, profile: TaskProfile) -> Rationale:
        prompt = profile.explain_prompt(pair.question, pair.answer)
        if not prompt:
            return Rationale()
        request = image_question(
            self._teacher.client.model,
            picture.url,
            prompt,
            max_tokens=profile.max_rationale_tokens,
            temperature=0.0,
            logprobs=True,
        )
        try:
            heard = await hear(self._teacher, request, picture.rank, raise_by=profile.raise_limit_by)
        except RequestRefused as error:
            log.warning("A pair is kept without the teacher's rationale: %s", error.detail)
            return Rationale()
        text = " ".join(heard.first.text.split())
        if not heard.first.whole or profile.is_refusal(text):
            return Rationale(spent=heard.spent)
        return Rationale(text, mean_logprob(heard.choices[0]), heard.spent)

    async def _ask_student(
        self, pair: Answered, why: Rationale, picture: Picture, profile: TaskProfile
    ) -> tuple[float | None, float | None]:
        """The student's mean log-probabilities of the teacher's answer and of its rationale."""
        asked: list[tuple[str, str]] = []
        if self._spec.confidence:
            asked.append((profile.answer_prompt(pair.question), pair.answer))
        if why.text:
            asked.append((profile.explain_prompt(pair.question, pair.answer), why.text))
        if not asked:
            return None, None
        items = [ScoreItem(image=picture.url, question=prompt, answers=[text]) for prompt, text in asked]
        try:
            scores = (await self._student.score(ScoreRequest(items=items), picture.rank)).scores
        except RequestRefused as error:
            if not self._warned:
                log.warning("The student cannot score answers, so confidence and reasoning stay null: %s", error.detail)
                self._warned = True
            return None, None
        means = [one[0].mean_logprob for one in scores]
        return (means[0] if self._spec.confidence else None), (means[-1] if why.text else None)

    async def _maps(self, pair: Answered, picture: Picture, profile: TaskProfile) -> AttentionMaps:
        if not self._spec.attention:
            return AttentionMaps()
        return await self._attention.measure(picture, profile.answer_prompt(pair.question), pair.answer)


def rounded(value: float | None) -> float | None:
    """Six decimals. The rest is batching noise, which would make the files of equal runs differ."""
    return None if value is None else round(value, 6)


def _between(gap: Callable[[float, float], float], teacher: float | None, student: float | None) -> float | None:
    return None if teacher is None or student is None else rounded(gap(teacher, student))
