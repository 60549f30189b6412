"""Parity Identifier: keeps a pair iff the student is wrong and the teacher agrees with its own answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.parity.endpoints.endpoint import Endpoint
from services.parity.endpoints.patience import RequestRefused
from services.parity.images.picture import Picture, derive_seed
from services.parity.mining.hearing import ABOUT_LIMITS, RAISED, Heard, has_begun, hear, mean_logprob, unusable
from services.parity.mining.pairs import NONE, Answered, Judged, StudentAnswer, Tokens
from services.parity.mining.second_looks import Doubt, check_refusal, cross_check
from shared.client import image_question
from shared.concurrency import run_all
from shared.contracts import Cause, IdentifierSpec, Verdict
from shared.vqa.answers import match
from shared.vqa.reading.replies import Ending
from shared.vqa.tasks import TaskProfile

# Endings of a student's answer that leave open what it would have said, with the verdict and the cause.
_UNKNOWN = {
    Ending.THINKING: (Verdict.UNPARSABLE, Cause.STUDENT_THINKING),
    Ending.BROKEN_OFF: (Verdict.UNPARSABLE, Cause.BROKEN_OFF),
    Ending.WITHHELD: (Verdict.REFUSED, Cause.WITHHELD),
}


@dataclass(frozen=True)
class _Votes:
    """``answers``: "" for one that is not whole. ``problem``: what is wrong with the first, if none is whole."""

    answers: tuple[str, ...]
    spent: Tokens
    problem: str = ""
    cause: Cause | None = None


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
                if student.problem:
                    return _unknown(replace(pair, spent=pair.spent + votes.spent), student)
                return await self._weigh(pair, student, votes, picture, profile)
            return await self._verify_disagreement(pair, picture, profile)
        except RequestRefused as refusal:
            return pair.judged(Verdict.REFUSED, refusal.detail, cause=Cause.REJECTED)

    async def _verify_disagreement(self, pair: Answered, picture: Picture, profile: TaskProfile) -> Judged:
        """Asks the teacher again only if the student disagrees with it."""
        student = await self._ask_student(pair, picture, profile)
        if student.problem:
            return _unknown(pair, student)
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
        cause: Cause | None = None
        spent = pair.spent + votes.spent
        if verdict is Verdict.DISPARITY:
            doubt, cost = await self._look_again(pair, picture, profile)
            spent += cost
            if doubt is not None:
                verdict, reason, cause = doubt.verdict, doubt.reason, doubt.cause
            elif student.ending in RAISED:
                reason, cause = "The student's answer was cut off.", Cause.STUDENT_CUT_OFF
        if votes.problem:
            verdict, reason, cause = Verdict.UNPARSABLE, votes.problem, votes.cause
        judged = pair.judged(verdict, reason, student, cause)
        return replace(judged, votes=votes.answers, vote_share=share, spent=spent)

    async def _look_again(self, pair: Answered, picture: Picture, profile: TaskProfile) -> tuple[Doubt | None, Tokens]:
        """What the teacher says against its answer when it is asked about it, None if nothing."""
        spent = NONE
        for wanted, check in ((self._spec.refusal_check, check_refusal), (self._spec.cross_check, cross_check)):
            if wanted:
                doubt, cost = await check(self._teacher, pair, picture, profile)
                spent += cost
                if doubt is not None:
                    return doubt, spent
        return None, spent

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

    def _agrees(self, prediction: str, pair: Answered, profile: TaskProfile) -> bool:
        mode, rule = self._spec.match, profile.rule
        return match(prediction, pair.answer, mode=mode, rule=rule, question=pair.question)

    async def _ask_student(self, pair: Answered, picture: Picture, profile: TaskProfile) -> StudentAnswer:
        """The student's answer as far as it goes: one that is cut off is what a user would get.

        A student that is still thinking gets one try with a raised limit. If it does not begin to answer then, nothing
        is known about what it would have said.
        """
        try:
            heard = await self._hear_student(profile.answer_limit(pair.answer), pair, picture, profile)
        except RequestRefused:
            if profile.answer_limit(pair.answer) == profile.max_answer_tokens:
                raise
            # The student may allow no more than the task's own limit.
            heard = await self._hear_student(profile.max_answer_tokens, pair, picture, profile)
        said = heard.first
        unknown = said.ending in _UNKNOWN and (said.ending is not Ending.THINKING or said.visibly_thinking)
        problem = said.problem("The student's answer", heard.limit) if unknown else ""
        logprob = mean_logprob(heard.choices[0]) if heard.choices else None
        return StudentAnswer(profile.clean_answer(said.text), heard.version, logprob, said.ending, problem)

    async def _hear_student(self, limit: int, pair: Answered, picture: Picture, profile: TaskProfile) -> Heard:
        request = image_question(
            self._student.client.model,
            picture.url,
            profile.answer_prompt(pair.question),
            max_tokens=limit,
            temperature=0.0,
            logprobs=True,
        )
        return await hear(
            self._student,
            request,
            picture.rank,
            raise_by=profile.raise_limit_by,
            usable=lambda reply: not reply.visibly_thinking,
            gives_way_to=ABOUT_LIMITS if limit != profile.max_answer_tokens else None,
        )

    async def _ask_teacher_again(self, pair: Answered, picture: Picture, profile: TaskProfile) -> _Votes:
        sampled = self._spec.vote_temperature > 0
        request = image_question(
            self._teacher.client.model,
            picture.url,
            profile.answer_prompt(pair.question),
            n=self._spec.votes if sampled else 1,
            max_tokens=profile.answer_limit(pair.answer),
            temperature=self._spec.vote_temperature,
            seed=derive_seed(self._seed, picture.sha256, profile.name, "vote", pair.slot),
        )
        heard = await hear(
            self._teacher,
            request,
            picture.rank,
            raise_by=profile.raise_limit_by,
            usable=has_begun,
        )
        answers = tuple(profile.clean_answer(reply.text) if reply.whole else "" for reply in heard.replies)
        whole = any(reply.whole for reply in heard.replies)
        answers = answers if sampled else answers * self._spec.votes
        if whole:
            return _Votes(answers, heard.spent)
        problem = heard.first.problem("Every further answer of the teacher", heard.limit)
        return _Votes(answers, heard.spent, problem, unusable(heard.first, Cause.ANSWER_CUT_OFF)[1])


def _unknown(pair: Answered, student: StudentAnswer) -> Judged:
    """The student's answer did not begin, or its server ended it."""
    return pair.judged(_UNKNOWN[student.ending][0], student.problem, student, _UNKNOWN[student.ending][1])


def vote_share(agreeing: Sequence[bool]) -> float:
    """Fraction of the votes that agree; 0 if there are none."""
    return sum(agreeing) / len(agreeing) if agreeing else 0.0
