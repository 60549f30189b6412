"""Parity Identifier: keeps a pair iff the student is wrong and the teacher agrees with its own answer."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.parity.endpoints.endpoint import Endpoint, RequestRefused
from services.parity.images.picture import Picture, derive_seed
from services.parity.mining.annotator import first_text, mean_logprob
from services.parity.mining.pairs import NONE, Answered, Judged, StudentAnswer, Tokens
from shared.client import image_question
from shared.concurrency import run_all
from shared.contracts import IdentifierSpec, Verdict
from shared.vqa.answers import match
from shared.vqa.tasks import TaskProfile


@dataclass(frozen=True)
class _Votes:
    answers: tuple[str, ...]
    spent: Tokens


class Identifier:
    """Asks the student and the teacher of one job. ``seed`` is the job's."""

    def __init__(self, teacher: Endpoint, student: Endpoint, spec: IdentifierSpec, seed: int) -> None:
        self._teacher, self._student, self._spec, self._seed = teacher, student, spec, seed

    async def judge(self, pair: Answered, picture: Picture, profile: TaskProfile) -> Judged:
        """The pair with its verdict."""
        try:
            if self._spec.verify == "all":
                student, votes = await run_all(
                    self._ask_student(pair, picture, profile), self._ask_teacher_again(pair, picture, profile)
                )
                return await self._weigh(pair, student, votes, picture, profile)
            return await self._verify_disagreement(pair, picture, profile)
        except RequestRefused as refusal:
            return pair.judged(Verdict.REFUSED, refusal.detail)

    async def _verify_disagreement(self, pair: Answered, picture: Picture, profile: TaskProfile) -> Judged:
        """Asks the teacher again only if the student disagrees with it."""
        student = await self._ask_student(pair, picture, profile)
        if self._agrees(student.text, pair, profile):
            # A verification would read the prompt once and write ``votes`` answers of about the known length.
            saved = pair.answer_cost.prompt + self._spec.votes * pair.answer_cost.completion
            return replace(pair.judged(Verdict.STUDENT_RIGHT, student=student), saved_tokens=saved)
        unsure = self._unsure(pair)
        if unsure:
            return pair.judged(Verdict.TEACHER_INCONSISTENT, unsure, student)
        votes = await self._ask_teacher_again(pair, picture, profile)
        return await self._weigh(pair, student, votes, picture, profile)

    async def _weigh(
        self, pair: Answered, student: StudentAnswer, votes: _Votes, picture: Picture, profile: TaskProfile
    ) -> Judged:
        share = vote_share([self._agrees(vote, pair, profile) for vote in votes.answers])
        verdict, reason = self._verdict(pair, student, share, len(votes.answers), profile)
        spent = pair.spent + votes.spent
        if verdict is Verdict.DISPARITY and self._spec.cross_check:
            doubt, cost = await self._cross_check(pair, picture, profile)
            spent += cost
            if doubt:
                verdict, reason = Verdict.TEACHER_INCONSISTENT, doubt
        judged = pair.judged(verdict, reason, student)
        return replace(judged, votes=votes.answers, vote_share=share, spent=spent)

    def _verdict(
        self, pair: Answered, student: StudentAnswer, share: float, votes: int, profile: TaskProfile
    ) -> tuple[Verdict, str]:
        unsure = self._unsure(pair)
        if unsure:
            return Verdict.TEACHER_INCONSISTENT, unsure
        if share < self._spec.threshold:
            agreeing = f"{share:.0%} of its {votes} further answers"
            reason = f"The teacher agrees with itself in {agreeing}, less than {self._spec.threshold:.0%}."
            return Verdict.TEACHER_INCONSISTENT, reason
        return (Verdict.STUDENT_RIGHT if self._agrees(student.text, pair, profile) else Verdict.DISPARITY), ""

    def _unsure(self, pair: Answered) -> str:
        """Why the teacher is not sure enough of its answer; "" if it is, or if it sends no log-probabilities."""
        if pair.logprob is None or math.exp(pair.logprob) >= self._spec.min_confidence:
            return ""
        least = self._spec.min_confidence
        return f"The teacher gives its own answer {math.exp(pair.logprob):.0%}, less than {least:.0%}."

    async def _cross_check(self, pair: Answered, picture: Picture, profile: TaskProfile) -> tuple[str, Tokens]:
        """Asks the teacher in a separate question if its answer is right. Returns "" if it is, otherwise the reason."""
        prompt = profile.check_prompt(pair.question, pair.answer)
        if not prompt:
            return "", NONE
        request = image_question(
            self._teacher.client.model, picture.url, prompt, max_tokens=profile.max_answer_tokens, temperature=0.0
        )
        response = (await self._teacher.chat(request, picture.rank)).response
        said = first_text(response)
        doubt = f"Asked whether its answer is right, the teacher says {said.strip()[:40]!r}."
        return ("" if _says_yes(said) else doubt), Tokens.of(response)

    def _agrees(self, prediction: str, pair: Answered, profile: TaskProfile) -> bool:
        mode, rule = self._spec.match, profile.rule
        return match(prediction, pair.answer, mode=mode, rule=rule, question=pair.question)

    async def _ask_student(self, pair: Answered, picture: Picture, profile: TaskProfile) -> StudentAnswer:
        request = image_question(
            self._student.client.model,
            picture.url,
            profile.answer_prompt(pair.question),
            max_tokens=profile.max_answer_tokens,
            temperature=0.0,
            logprobs=True,
        )
        reply = await self._student.chat(request, picture.rank)
        answer = profile.clean_answer(first_text(reply.response))
        logprob = mean_logprob(reply.response.choices[0]) if reply.response.choices else None
        return StudentAnswer(answer, reply.checkpoint or reply.response.system_fingerprint, logprob)

    async def _ask_teacher_again(self, pair: Answered, picture: Picture, profile: TaskProfile) -> _Votes:
        sampled = self._spec.vote_temperature > 0
        request = image_question(
            self._teacher.client.model,
            picture.url,
            profile.answer_prompt(pair.question),
            n=self._spec.votes if sampled else 1,
            max_tokens=profile.max_answer_tokens,
            temperature=self._spec.vote_temperature,
            seed=derive_seed(self._seed, picture.sha256, profile.name, "vote", pair.slot),
        )
        response = (await self._teacher.chat(request, picture.rank)).response
        answers = tuple(profile.clean_answer(choice.message.content or "") for choice in response.choices)
        return _Votes(answers if sampled else answers * self._spec.votes, Tokens.of(response))


def vote_share(agreeing: Sequence[bool]) -> float:
    """Fraction of the votes that agree; 0 if there are none."""
    return sum(agreeing) / len(agreeing) if agreeing else 0.0


def _says_yes(text: str) -> bool:
    return re.match(r"\W*yes\b", text.lower()) is not None
