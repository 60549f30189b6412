"""Parity Identifier: keeps a pair iff the student is wrong and the teacher agrees with its own answer."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.parity.endpoints.endpoint import Endpoint, RequestRefused
from services.parity.images.picture import Picture, derive_seed
from services.parity.mining.hearing import RAISED, hear, mean_logprob
from services.parity.mining.pairs import NONE, Answered, Judged, StudentAnswer, Tokens
from shared.client import image_question
from shared.concurrency import run_all
from shared.contracts import ChatMessage, ChatRequest, IdentifierSpec, Verdict
from shared.vqa.answers import match
from shared.vqa.reading.replies import SHOWN, Ending, first_reply
from shared.vqa.tasks import TaskProfile

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Votes:
    """``answers``: "" for one that is not whole. ``problem``: what is wrong with the first, if none is whole."""

    answers: tuple[str, ...]
    spent: Tokens
    problem: str = ""


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
        if verdict is Verdict.DISPARITY and self._spec.refusal_check:
            refusal, cost = await self._check_refusal(pair, picture, profile)
            spent += cost
            if refusal:
                verdict, reason = Verdict.REFUSED, refusal
        if verdict is Verdict.DISPARITY and self._spec.cross_check:
            doubt, cost = await self._cross_check(pair, picture, profile)
            spent += cost
            if doubt:
                verdict, reason = Verdict.TEACHER_INCONSISTENT, doubt
        if verdict is Verdict.DISPARITY and student.cut_off:
            reason = "The student's answer was cut off."
        if votes.problem:
            verdict, reason = Verdict.UNPARSABLE, votes.problem
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

    async def _check_refusal(self, pair: Answered, picture: Picture, profile: TaskProfile) -> tuple[str, Tokens]:
        """Asks the teacher, without the image, if its answer declines. Returns "" if it does not, otherwise the reason.

        A refusal wins all votes and every student is wrong about it, whatever its words: no list can hold them all.
        Only a clear "no" counts, so that a teacher that cannot answer this loses no pairs.
        """
        prompt = profile.answerable_prompt(pair.question, pair.answer)
        if not prompt:
            return "", NONE
        request = ChatRequest(
            model=self._teacher.client.model,
            messages=[ChatMessage(role="user", content=prompt)],
            max_tokens=profile.max_answer_tokens,
            temperature=0.0,
        )
        try:
            heard = await hear(self._teacher, request, picture.rank)
        except RequestRefused as refusal:
            log.debug("A pair is kept without a check for a refusal: %s", refusal.detail)
            return "", NONE
        declines = re.match(r"\W*no\b", heard.first.text.lower()) is not None
        shown = repr(pair.answer[:SHOWN])
        return (f"Asked whether {shown} is an answer at all, the teacher says no." if declines else ""), heard.spent

    async def _cross_check(self, pair: Answered, picture: Picture, profile: TaskProfile) -> tuple[str, Tokens]:
        """Asks the teacher in a separate question if its answer is right. Returns "" if it is, otherwise the reason."""
        prompt = profile.check_prompt(pair.question, pair.answer)
        if not prompt:
            return "", NONE
        request = image_question(
            self._teacher.client.model, picture.url, prompt, max_tokens=profile.max_answer_tokens, temperature=0.0
        )
        heard = await hear(
            self._teacher,
            request,
            picture.rank,
            raise_by=profile.raise_limit_by,
            usable=lambda reply: reply.ending is not Ending.THINKING,
        )
        said = heard.first.text.strip()
        if not said:
            return heard.first.problem("The teacher's check of its own answer", heard.limit), heard.spent
        doubt = f"Asked whether its answer is right, the teacher says {said[:40]!r}."
        return ("" if _says_yes(said) else doubt), heard.spent

    def _agrees(self, prediction: str, pair: Answered, profile: TaskProfile) -> bool:
        mode, rule = self._spec.match, profile.rule
        return match(prediction, pair.answer, mode=mode, rule=rule, question=pair.question)

    async def _ask_student(self, pair: Answered, picture: Picture, profile: TaskProfile) -> StudentAnswer:
        """The student's answer as far as it goes: one that is cut off is what a user would get."""
        request = image_question(
            self._student.client.model,
            picture.url,
            profile.answer_prompt(pair.question),
            max_tokens=profile.answer_limit(pair.answer),
            temperature=0.0,
            logprobs=True,
        )
        try:
            reply = await self._student.chat(request, picture.rank)
        except RequestRefused:
            if request.max_tokens == profile.max_answer_tokens:
                raise
            # The student may allow no more than the task's own limit.
            own = request.model_copy(update={"max_tokens": profile.max_answer_tokens})
            reply = await self._student.chat(own, picture.rank)
        said = first_reply(reply.response)
        logprob = mean_logprob(reply.response.choices[0]) if reply.response.choices else None
        version = reply.checkpoint or reply.response.system_fingerprint
        return StudentAnswer(profile.clean_answer(said.text), version, logprob, said.ending in RAISED)

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
            usable=lambda reply: reply.ending is not Ending.THINKING,
        )
        answers = tuple(profile.clean_answer(reply.text) if reply.whole else "" for reply in heard.replies)
        whole = any(reply.whole for reply in heard.replies)
        problem = "" if whole else heard.first.problem("Every further answer of the teacher", heard.limit)
        return _Votes(answers if sampled else answers * self._spec.votes, heard.spent, problem)


def vote_share(agreeing: Sequence[bool]) -> float:
    """Fraction of the votes that agree; 0 if there are none."""
    return sum(agreeing) / len(agreeing) if agreeing else 0.0


def _says_yes(text: str) -> bool:
    return re.match(r"\W*yes\b", text.lower()) is not None
