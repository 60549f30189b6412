"""What is measured of a kept pair beside the answers: how sure both are, why the teacher is right, where both look.

A model that cannot say costs the pair its value, never the pair.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from services.parity.endpoints.endpoint import RequestRefused, Upstream
from services.parity.images.picture import Picture
from services.parity.mining.annotator import Draft, first_text, mean_logprob, tokens_of
from services.parity.mining.attention import AttentionMeter
from shared.client import image_question
from shared.concurrency import run_all
from shared.contracts import DiscrepancySpec, ScoreItem, ScoreRequest
from shared.discrepancies import attention_gap, confidence_gap, reasoning_gap
from shared.errors import UpstreamError
from shared.sets import Row
from shared.vqa.tasks import TaskProfile

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rationale:
    """The teacher's sentence and its mean token log-probability, with the teacher's tokens that it cost."""

    text: str | None = None
    logprob: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class GapMeter:
    """Measures the kept pairs of one shard as the job's spec asks."""

    def __init__(self, teacher: Upstream, student: Upstream, spec: DiscrepancySpec) -> None:
        self._teacher, self._student, self._spec = teacher, student, spec
        self._attention = AttentionMeter(teacher, student, spec)
        self._told = False

    async def measure(self, row: Row, draft: Draft, picture: Picture, profile: TaskProfile) -> Row:
        """``row`` with its columns filled in, teacher tokens added."""
        row, attended = await run_all(
            self._words(row, draft, picture, profile), self._looks(row, draft, picture, profile)
        )
        return replace(
            row,
            teacher_attention=attended.teacher_attention,
            student_attention=attended.student_attention,
            attention_gap=attended.attention_gap,
        )

    async def _words(self, row: Row, draft: Draft, picture: Picture, profile: TaskProfile) -> Row:
        why = await self._rationale(draft, picture, profile) if self._spec.reasoning else Rationale()
        row = replace(
            row,
            rationale=why.text,
            teacher_rationale_logprob=rounded(why.logprob),
            teacher_top=draft.top,
            prompt_tokens=row.prompt_tokens + why.prompt_tokens,
            completion_tokens=row.completion_tokens + why.completion_tokens,
        )
        label, reason = await self._student_thinks(draft, why, picture, profile)
        return replace(
            row,
            gap_logprob=rounded(label),
            student_rationale_logprob=rounded(reason),
            confidence_gap=_between(confidence_gap, draft.logprob, label),
            reasoning_gap=_between(reasoning_gap, why.logprob, reason),
        )

    async def _rationale(self, draft: Draft, picture: Picture, profile: TaskProfile) -> Rationale:
        prompt = profile.explain_prompt(draft.question or "", draft.answer or "")
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
            response = (await self._teacher.chat(request, picture.rank)).response
        except (RequestRefused, UpstreamError) as error:
            log.warning("No rationale of the teacher: %s", error.detail)
            return Rationale()
        text = " ".join(first_text(response).split())
        if not text or profile.is_refusal(text):
            return Rationale(None, None, *tokens_of(response))
        return Rationale(text, mean_logprob(response.choices[0]), *tokens_of(response))

    async def _student_thinks(
        self, draft: Draft, why: Rationale, picture: Picture, profile: TaskProfile
    ) -> tuple[float | None, float | None]:
        """The student's mean log-probabilities of the teacher's answer and of its rationale."""
        question, answer = draft.question or "", draft.answer or ""
        asked: list[tuple[str, str]] = []
        if self._spec.confidence:
            asked.append((profile.answer_prompt(question), answer))
        if why.text:
            asked.append((profile.explain_prompt(question, answer), why.text))
        if not asked:
            return None, None
        items = [ScoreItem(image=picture.url, question=prompt, answers=[text]) for prompt, text in asked]
        try:
            scores = (await self._student.score(ScoreRequest(items=items), picture.rank)).scores
        except (RequestRefused, UpstreamError) as error:
            if not self._told:
                log.warning("The student scores no answers, so confidence and reasoning stay empty: %s", error.detail)
                self._told = True
            return None, None
        means = [one[0].mean_logprob for one in scores]
        return (means[0] if self._spec.confidence else None), (means[-1] if why.text else None)

    async def _looks(self, row: Row, draft: Draft, picture: Picture, profile: TaskProfile) -> Row:
        if not self._spec.attention:
            return row
        prompt = profile.answer_prompt(draft.question or "")
        looks = await self._attention.measure(picture, prompt, draft.answer or "")
        known = looks.teacher is not None and looks.student is not None
        gap = attention_gap(looks.teacher or (), looks.student or ()) if known else None
        return replace(
            row, teacher_attention=looks.teacher, student_attention=looks.student, attention_gap=rounded(gap)
        )


def rounded(value: float | None) -> float | None:
    """Six decimals: the rest is noise of batching, and makes files of equal runs differ."""
    return None if value is None else round(value, 6)


def _between(gap: Callable[[float, float], float], teacher: float | None, student: float | None) -> float | None:
    return None if teacher is None or student is None else rounded(gap(teacher, student))
