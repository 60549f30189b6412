"""The stages of a pair: a ``Draft`` has a question, ``Answered`` the teacher's answer, ``Judged`` a verdict.

Only a judged pair becomes a row of the set, so a row without a real verdict cannot exist. A pair may be judged at any
stage: an unparsable text, a refusal and a duplicate end it early.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from shared.contracts import Cause, ChatResponse, Verdict
from shared.sets import Alternative
from shared.vqa.reading.replies import Ending


@dataclass(frozen=True)
class Tokens:
    """Tokens that the teacher spent."""

    prompt: int = 0
    completion: int = 0

    @classmethod
    def of(cls, response: ChatResponse) -> Tokens:
        """As the server counted them; 0 if it did not."""
        usage = response.usage
        return cls() if usage is None else cls(usage.prompt_tokens, usage.completion_tokens)

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.prompt + other.prompt, self.completion + other.completion)


NONE = Tokens()


@dataclass(frozen=True)
class StudentAnswer:
    """``version``: the checkpoint that answered. ``logprob``: mean token log-probability in nats, None if unknown.

    ``problem``: why it is not known what the student answers, in a sentence; "" if it is.
    """

    text: str
    version: str | None
    logprob: float | None
    ending: Ending = Ending.WHOLE
    problem: str = ""


@dataclass(frozen=True)
class Discrepancies:
    """The discrepancies of a kept pair, and the columns that the losses need. None: not asked for, or not available.

    Log-probabilities are means over tokens, in nats. ``student_logprob`` is what the student gives the teacher's
    answer. ``spent``: the teacher's tokens for its rationale.
    """

    top: tuple[tuple[Alternative, ...], ...] | None = None
    student_logprob: float | None = None
    rationale: str | None = None
    teacher_rationale_logprob: float | None = None
    student_rationale_logprob: float | None = None
    confidence_gap: float | None = None
    reasoning_gap: float | None = None
    attention_gap: float | None = None
    teacher_attention: tuple[float, ...] | None = None
    student_attention: tuple[float, ...] | None = None
    spent: Tokens = NONE


@dataclass(frozen=True)
class Judged:
    """A pair with its verdict. Fields of stages that it did not reach are None.

    ``spent`` excludes the tokens of ``measures``.
    ``saved_tokens``: estimated cost of a verification that was not needed.
    """

    slot: int
    verdict: Verdict
    reason: str = ""
    question: str | None = None
    answer: str | None = None
    logprob: float | None = None
    student: StudentAnswer | None = None
    votes: tuple[str, ...] = ()
    vote_share: float | None = None
    measures: Discrepancies = Discrepancies()
    spent: Tokens = NONE
    saved_tokens: int = 0
    cause: Cause | None = None


@dataclass(frozen=True)
class Draft:
    """A question that the teacher proposed. ``answer``: what it wrote in the same text (one-shot mode).

    ``answer_cost``: estimated tokens of answering this question once.
    """

    slot: int
    question: str
    answer: str | None = None
    spent: Tokens = NONE
    answer_cost: Tokens = NONE

    def judged(self, verdict: Verdict, reason: str, cause: Cause | None = None) -> Judged:
        return Judged(self.slot, verdict, reason, self.question, self.answer, spent=self.spent, cause=cause)


@dataclass(frozen=True)
class Answered:
    """A question with the teacher's answer.

    ``logprob``: its mean token log-probability in nats, ``top``: the likeliest tokens at each place; None if unknown.
    ``answer_cost``: tokens of answering this question once.
    """

    slot: int
    question: str
    answer: str
    logprob: float | None = None
    top: tuple[tuple[Alternative, ...], ...] | None = None
    spent: Tokens = NONE
    answer_cost: Tokens = NONE

    def judged(
        self,
        verdict: Verdict,
        reason: str = "",
        student: StudentAnswer | None = None,
        cause: Cause | None = None,
    ) -> Judged:
        known = Judged(self.slot, verdict, reason, self.question, self.answer, self.logprob)
        return replace(known, student=student, spent=self.spent, cause=cause)
