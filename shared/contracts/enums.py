"""How jobs, pairs and images end: the words that records, sets and answers share."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """How a pair (or an image that yielded none) ended; stored for every one, so that the funnel adds up."""

    DISPARITY = "disparity"
    STUDENT_RIGHT = "student_right"
    TEACHER_INCONSISTENT = "teacher_inconsistent"
    UNPARSABLE = "unparsable"
    UNREADABLE_IMAGE = "unreadable_image"
    DUPLICATE = "duplicate"
    REFUSED = "refused"


class Cause(StrEnum):
    """Why a pair is ``unparsable`` or ``refused``, or what is special about its student's answer."""

    QUESTION_CUT_OFF = "question_cut_off"
    ANSWER_CUT_OFF = "answer_cut_off"
    TEACHER_THINKING = "teacher_thinking"
    EMPTY = "empty"
    BROKEN_OFF = "broken_off"
    TOO_LONG = "too_long"
    NO_QUESTION = "no_question"
    TOO_FEW_TEXTS = "too_few_texts"
    WITHHELD = "withheld"
    DECLINED = "declined"
    REJECTED = "rejected"
    STUDENT_THINKING = "student_thinking"
    STUDENT_CUT_OFF = "student_cut_off"


class JobState(StrEnum):
    QUEUED = "queued"
    COLLECTING = "collecting"
    TRAINING = "training"
    EVALUATING = "evaluating"
    PROMOTING = "promoting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class Outcome(StrEnum):
    PROMOTED = "promoted"
    KEPT = "kept"
    NO_GAP = "no_gap"


class Split(StrEnum):
    """Images of a pile are split by content hash: ``held_out`` ones are never trained on and feed the gate."""

    TRAIN = "train"
    HELD_OUT = "held_out"
