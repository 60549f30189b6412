"""Parity Identifier: who answers right? Keeps a pair iff the student is wrong and the teacher agrees with itself."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.parity.endpoints.endpoint import RequestRefused, Upstream
from services.parity.images.picture import Picture, derive_seed
from services.parity.mining.annotator import Draft, first_text, mean_logprob, tokens_of
from shared.client import image_question
from shared.concurrency import run_all
from shared.contracts import IdentifierSpec, Verdict
from shared.vqa.answers import match
from shared.vqa.tasks import TaskProfile


@dataclass(frozen=True)
class Finding:
    """How a question ended. Tokens are the teacher's, for its verification; ``saved_tokens``: for one not asked."""

    verdict: Verdict
    reason: str = ""
    student_answer: str | None = None
    student_version: str | None = None
    student_logprob: float | None = None
    votes: tuple[str, ...] = ()
    vote_share: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    saved_tokens: int = 0


@dataclass(frozen=True)
class _Student:
    answer: str
    version: str | None
    logprob: float | None


@dataclass(frozen=True)
class _Votes:
    answers: tuple[str, ...]
    prompt_tokens: int
    completion_tokens: int


class Identifier:
    """Asks one job's student and teacher. ``seed`` is the job's."""

    def __init__(self, teacher: Upstream, student: Upstream, spec: IdentifierSpec, seed: int) -> None:
        self._teacher, self._student, self._spec, self._seed = teacher, student, spec, seed

    async def examine(self, draft: Draft, picture: Picture, profile: TaskProfile) -> Finding:
        """The verdict on a question that the teacher answered."""
        try:
            if self._spec.verify == "all":
                return await self._verify_all(draft, picture, profile)
            return await self._verify_disagreements(draft, picture, profile)
        except RequestRefused as refusal:
            return Finding(Verdict.REFUSED, refusal.detail)

    async def _verify_disagreements(self, draft: Draft, picture: Picture, profile: TaskProfile) -> Finding:
        student = await self._ask_student(draft, picture, profile)
        if self._agree(student.answer, draft, profile):
            # One verification reads the prompt once and answers ``votes`` times, about as long as the answer known.
            prompt, completion = draft.answer_cost
            saved = prompt + self._spec.votes * completion
            return replace(_found(Verdict.STUDENT_RIGHT, student), saved_tokens=saved)
        unsure = self._unsure(draft)
        if unsure:
            return replace(_found(Verdict.TEACHER_INCONSISTENT, student), reason=unsure)
        votes = await self._ask_teacher_again(draft, picture, profile)
        return await self._checked(self._judge(student, votes, draft, profile), draft, picture, profile)

    async def _verify_all(self, draft: Draft, picture: Picture, profile: TaskProfile) -> Finding:
        student, votes = await run_all(
            self._ask_student(draft, picture, profile), self._ask_teacher_again(draft, picture, profile)
        )
        return await self._checked(self._judge(student, votes, draft, profile), draft, picture, profile)

    def _unsure(self, draft: Draft) -> str:
        """Why the teacher is not sure enough of its answer; "" if it is, or if it tells no log-probabilities."""
        if draft.logprob is None or math.exp(draft.logprob) >= self._spec.min_confidence:
            return ""
        least = self._spec.min_confidence
        return f"The teacher gives its own answer {math.exp(draft.logprob):.0%}, less than {least:.0%}."

    async def _checked(self, finding: Finding, draft: Draft, picture: Picture, profile: TaskProfile) -> Finding:
        """A kept pair after the teacher was asked, in a question of its own, whether its answer is right."""
        prompt = profile.check_prompt(draft.question or "", draft.answer or "")
        if finding.verdict is not Verdict.DISPARITY or not self._spec.cross_check or not prompt:
            return finding
        request = image_question(
            self._teacher.client.model, picture.url, prompt, max_tokens=profile.max_answer_tokens, temperature=0.0
        )
        response = (await self._teacher.chat(request, picture.rank)).response
        prompt_tokens, completion_tokens = tokens_of(response)
        said = first_text(response)
        finding = replace(
            finding,
            prompt_tokens=finding.prompt_tokens + prompt_tokens,
            completion_tokens=finding.completion_tokens + completion_tokens,
        )
        if _says_yes(said):
            return finding
        reason = f"Asked whether its answer is right, the teacher says {said.strip()[:40]!r}."
        return replace(finding, verdict=Verdict.TEACHER_INCONSISTENT, reason=reason)

    def _judge(self, student: _Student, votes: _Votes, draft: Draft, profile: TaskProfile) -> Finding:
        share = vote_share(votes.answers, [self._agree(vote, draft, profile) for vote in votes.answers])
        finding = replace(
            _found(Verdict.DISPARITY, student),
            votes=votes.answers,
            vote_share=share,
            prompt_tokens=votes.prompt_tokens,
            completion_tokens=votes.completion_tokens,
        )
        unsure = self._unsure(draft)
        if unsure:
            return replace(finding, verdict=Verdict.TEACHER_INCONSISTENT, reason=unsure)
        if share < self._spec.threshold:
            agreeing = f"{share:.0%} of its {len(votes.answers)} further answers"
            reason = f"The teacher agrees with itself in {agreeing}, less than {self._spec.threshold:.0%}."
            return replace(finding, verdict=Verdict.TEACHER_INCONSISTENT, reason=reason)
        if self._agree(student.answer, draft, profile):
            return replace(finding, verdict=Verdict.STUDENT_RIGHT)
        return finding

    def _agree(self, prediction: str, draft: Draft, profile: TaskProfile) -> bool:
        return match(prediction, draft.answer or "", mode=self._spec.match, metric=profile.metric)

    async def _ask_student(self, draft: Draft, picture: Picture, profile: TaskProfile) -> _Student:
        request = image_question(
            self._student.client.model,
            picture.url,
            profile.answer_prompt(draft.question or ""),
            max_tokens=profile.max_answer_tokens,
            temperature=0.0,
            logprobs=True,
        )
        reply = await self._student.chat(request, picture.rank)
        answer = profile.clean_answer(first_text(reply.response))
        logprob = mean_logprob(reply.response.choices[0]) if reply.response.choices else None
        return _Student(answer, reply.checkpoint or reply.response.system_fingerprint, logprob)

    async def _ask_teacher_again(self, draft: Draft, picture: Picture, profile: TaskProfile) -> _Votes:
        sampled = self._spec.vote_temperature > 0
        request = image_question(
            self._teacher.client.model,
            picture.url,
            profile.answer_prompt(draft.question or ""),
            n=self._spec.votes if sampled else 1,
            max_tokens=profile.max_answer_tokens,
            temperature=self._spec.vote_temperature,
            seed=derive_seed(self._seed, picture.sha256, profile.name, "vote", draft.slot),
        )
        response = (await self._teacher.chat(request, picture.rank)).response
        answers = tuple(profile.clean_answer(choice.message.content or "") for choice in response.choices)
        return _Votes(answers if sampled else answers * self._spec.votes, *tokens_of(response))


def _says_yes(text: str) -> bool:
    return re.match(r"\W*yes\b", text.lower()) is not None


def vote_share(answers: Sequence[str], agreeing: Sequence[bool]) -> float:
    """Fraction of the answers that agree; 0 where none came."""
    return sum(agreeing) / len(answers) if answers else 0.0


def _found(verdict: Verdict, student: _Student) -> Finding:
    return Finding(
        verdict,
        student_answer=student.answer,
        student_version=student.version,
        student_logprob=student.logprob,
    )
