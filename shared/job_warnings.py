"""What a person should know about a job's pairs before trusting its result: counts in, warnings as text out.

A share of all pairs says more than any single one: a job whose teacher refuses most questions still succeeds, although
its student has learned little. Everything here follows from the counts of a job's record, so it costs the same for any
job.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from shared.contracts import Cause, JobWarning, Verdict, WarningCode

MOST = 0.5
"""Share of all pairs at which a warning is given."""
DOMINATES = 0.2
"""Share of all pairs at which one of several reasons is named, if together they reach ``MOST``."""
MANY = 0.1
"""Share of all pairs at which a limit of tokens is named."""
ENOUGH_TO_JUDGE = 50
"""Pairs that a job which is still collecting must have before it warns."""
FEW_HELD_OUT = 30
"""Held-out questions below which the gate cannot tell a gain of 10 points from chance."""


@dataclass(frozen=True)
class PairCounts:
    """A job's counts. ``collected``: all images of the round are done. ``to_train``: disparity pairs of the training
    split. ``held_out``: questions that the gate measured on, None before it has. ``causes``: pairs by Cause; causes of
    later releases may be among them.
    """

    job_id: str
    verdicts: Mapping[Verdict, int]
    collected: bool
    to_train: int
    batch_size: int
    held_out: int | None = None
    causes: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.verdicts.values())

    def share(self, verdict: Verdict) -> float:
        return self.verdicts.get(verdict, 0) / self.total if self.total else 0.0


@dataclass(frozen=True)
class _Reason:
    code: WarningCode
    what: str
    cause: str
    advice: str


CAUSES: dict[Cause, str] = {
    Cause.QUESTION_CUT_OFF: "the teacher's question was cut off by its token limit",
    Cause.ANSWER_CUT_OFF: "the teacher's answer was cut off by its token limit",
    Cause.TEACHER_THINKING: "the teacher was still thinking when its tokens were used up",
    Cause.EMPTY: "the teacher's text was empty",
    Cause.BROKEN_OFF: "the text was broken off by the model's server",
    Cause.TOO_LONG: "the teacher's text was too long for an answer",
    Cause.NO_QUESTION: "the teacher's text held no question",
    Cause.TOO_FEW_TEXTS: "the teacher sent fewer texts than asked for",
    Cause.WITHHELD: "the text was withheld by the model's server",
    Cause.DECLINED: "the teacher declined to answer",
    Cause.REJECTED: "the model server refused the request",
    Cause.STUDENT_THINKING: "the student was still thinking when its tokens were used up",
    Cause.STUDENT_CUT_OFF: "the student's answer was cut off, and counts as far as it goes",
}
"""Each cause in words, for people."""
_LIMITS = {
    Cause.QUESTION_CUT_OFF: "Raise max_question_tokens of the task, in one-shot mode also max_answer_tokens, or use "
    "prompts that ask for less.",
    Cause.ANSWER_CUT_OFF: "Raise max_answer_tokens of the task, or ask for a shorter answer in its prompt.",
    Cause.TEACHER_THINKING: "Raise MPA_TEACHER_REASONING_TOKENS, or switch the teacher's reasoning off at its server.",
    Cause.STUDENT_THINKING: "Raise MPA_STUDENT_REASONING_TOKENS, or switch the student's reasoning off at its server.",
}
"""What to raise, for each cause that is a limit of tokens."""
_REASONS = {
    Verdict.REFUSED: _Reason(
        "mostly_refused",
        "were refused by the teacher",
        "The teacher cannot or will not answer such questions: it is too weak for these images, its safety rules "
        "forbid the answer, the task asks for what the images do not show, or the server rejects the requests.",
        "Use a larger teacher, or change the task's prompts so that it asks for what the images show. If ordinary "
        "answers count as refusals, correct `refusals` in the task's profile.",
    ),
    Verdict.UNPARSABLE: _Reason(
        "mostly_unparsable",
        "could not be read from the teacher's text",
        "The teacher's texts were cut off by a token limit, it was still thinking, or it does not keep to the form "
        "that the prompts ask for.",
        "Raise max_question_tokens and max_answer_tokens of the task, and MPA_TEACHER_REASONING_TOKENS for a teacher "
        "that reasons. Or use annotator.mode: two_step, or a teacher that supports JSON schemas "
        "(annotator.structured: auto).",
    ),
    Verdict.DUPLICATE: _Reason(
        "mostly_duplicate",
        "repeated a question that was already asked about the same image",
        "The images do not offer as many different questions as are asked for, or the teacher samples too narrowly.",
        "Lower annotator.questions_per_image, raise annotator.temperature or annotator.top_p, or use prompts that "
        "ask for more different things.",
    ),
    Verdict.TEACHER_INCONSISTENT: _Reason(
        "mostly_inconsistent",
        "were dropped because the teacher does not stand by its answer",
        "The questions are too hard for the teacher, its votes are sampled too freely, or it is less sure than "
        "identifier.min_confidence asks.",
        "Use a larger teacher, or lower identifier.vote_temperature. Lower identifier.threshold or "
        "identifier.min_confidence only if you have looked at the labels.",
    ),
    Verdict.UNREADABLE_IMAGE: _Reason(
        "mostly_unreadable",
        "belong to images that could not be read",
        "The images are damaged, missing, in an unsupported format, or larger than the limits allow.",
        "Convert or remove these images, or raise the limits (MPA_MAX_IMAGE_PIXELS, MPA_MAX_IMAGE_BYTES).",
    ),
}


def warnings_of(counts: PairCounts) -> list[JobWarning]:
    """The warnings of a job, the most frequent reason first. A job that is still collecting warns of unusable pairs
    once it has `ENOUGH_TO_JUDGE` of them.
    """
    if not counts.total or not (counts.collected or counts.total >= ENOUGH_TO_JUDGE):
        return []
    dominating = _dominating(counts)
    unusable = [_unusable(counts, verdict) for verdict in dominating]
    if Verdict.UNPARSABLE not in dominating:
        unusable += _out_of_tokens(counts)
    return [*unusable, *_few(counts)] if counts.collected else unusable


def mostly_unusable(counts: PairCounts) -> bool:
    """Whether at least half of the pairs ended before the student's answer could be checked."""
    return sum(counts.share(verdict) for verdict in _REASONS) >= MOST


def _dominating(counts: PairCounts) -> list[Verdict]:
    """The verdicts that made most pairs unusable: those above `DOMINATES`, or else the most frequent one."""
    if not mostly_unusable(counts):
        return []
    ranked = sorted(_REASONS, key=lambda verdict: -counts.share(verdict))
    return [verdict for verdict in ranked if counts.share(verdict) >= DOMINATES] or ranked[:1]


def _unusable(counts: PairCounts, verdict: Verdict) -> JobWarning:
    reason = _REASONS[verdict]
    limits = _limits(counts) if verdict is Verdict.UNPARSABLE else []
    return JobWarning(
        code=reason.code,
        text=f"{counts.verdicts[verdict]:,} of {counts.total:,} pairs {reason.what}.",
        cause=_in_words(counts, limits) or reason.cause,
        advice=" ".join(
            [*(_LIMITS[one] for one in limits), *([] if limits else [reason.advice]), _look(counts, verdict)]
        ),
    )


def _out_of_tokens(counts: PairCounts) -> list[JobWarning]:
    """Limits of tokens that cost many pairs, although most are usable: one setting brings them back."""
    limits = _limits(counts)
    if not limits:
        return []
    lost = sum(counts.causes[one] for one in limits)
    return [
        JobWarning(
            code="token_limit",
            text=f"{lost:,} of {counts.total:,} pairs were lost because a model's tokens were used up.",
            cause=_in_words(counts, limits),
            advice=" ".join([*(_LIMITS[one] for one in limits), _look(counts, Verdict.UNPARSABLE)]),
        )
    ]


def _limits(counts: PairCounts) -> list[Cause]:
    """The limits of tokens that cost many pairs, the worst first."""
    many = [one for one in _LIMITS if counts.causes.get(one, 0) >= MANY * counts.total]
    return sorted(many, key=lambda one: -counts.causes[one])


def _in_words(counts: PairCounts, causes: Iterable[Cause]) -> str:
    """How often each cause occurred, as a sentence; "" for none."""
    said = "; ".join(f"in {counts.causes[one]:,} pairs {CAUSES[one]}" for one in causes)
    return f"{said[0].upper()}{said[1:]}." if said else ""


def _look(counts: PairCounts, verdict: Verdict) -> str:
    return f"`mpa pairs {counts.job_id} --verdict {verdict}` shows each pair with its reason."


def _few(counts: PairCounts) -> Iterator[JobWarning]:
    if 0 < counts.to_train < counts.batch_size:
        yield JobWarning(
            code="few_disparities",
            text=f"There are only {counts.to_train} disparity pairs to train on, less than one batch "
            f"(train.batch_size is {counts.batch_size}).",
            cause="The job has few images, the student already answers most questions as the teacher does, or most "
            "pairs were unusable.",
            advice="Submit more images, ask more questions about each (annotator.questions_per_image), or choose "
            "images and tasks that the student is weak at.",
        )
    if counts.held_out is not None and counts.held_out < FEW_HELD_OUT:
        yield JobWarning(
            code="few_held_out",
            text=f"The gate measured on only {counts.held_out} held-out questions.",
            cause="The share of the images that is held out (gate.held_out_fraction) holds few usable pairs.",
            advice=f"Submit more images or a larger gate.held_out_fraction: below {FEW_HELD_OUT} questions, a "
            "difference in agreement may be chance.",
        )
