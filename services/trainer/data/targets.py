"""From a sample to the texts that are trained on: its answer, and what else the terms of the loss ask for."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

from services.trainer.data.dataset import Sample, TrainingSet
from services.trainer.losses import TargetKind
from services.trainer.losses.candidates import vote_shares
from shared.contracts import LossSpec
from shared.errors import InvalidInput

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """A text that the student learns for a sample.

    ``share``: the teacher's probability of it among the candidate answers; NaN if it is not one of them.
    """

    sample: Sample
    kind: TargetKind
    text: str
    share: float = math.nan


def answer_target(sample: Sample) -> Target:
    return Target(sample, TargetKind.ANSWER, sample.answer)


class TargetMaker:
    """Expands samples as one alignment asks.

    ``has_top`` says whether the teacher's top tokens of a sample can be used with the student's tokenizer, and
    ``can_explain`` whether a task has a prompt for rationales.
    """

    def __init__(
        self, alignment: LossSpec, has_top: Callable[[Sample], bool], can_explain: Callable[[str], bool]
    ) -> None:
        self._alignment, self._has_top, self._can_explain = alignment, has_top, can_explain

    def targets(self, sample: Sample) -> list[Target]:
        """The answer first. Replay samples have nothing else: they only keep what the student knows."""
        if sample.is_replay:
            return [answer_target(sample)]
        return [*self._answers(sample), *self._rationale(sample)]

    def uses_top(self, sample: Sample) -> bool:
        """Whether consistency is measured token by token for this sample."""
        on = self._alignment.consistency > 0 and self._alignment.consistency_by != "candidates"
        return on and not sample.is_replay and self._has_top(sample)

    def check(self, data: TrainingSet) -> None:
        """Raises InvalidInput for a term that no pair of the set has data for; logs how many pairs have it."""
        pairs = data.samples[: data.disparity]
        by_top = sum(self.uses_top(pair) for pair in pairs)
        counts = {
            "consistency": by_top + sum(self._has_candidates(pair) for pair in pairs),
            "rationale": sum(bool(self._rationale(pair)) for pair in pairs),
            "attention": sum(pair.teacher_attention is not None for pair in pairs),
        }
        for term, count in counts.items():
            if getattr(self._alignment, term) <= 0:
                continue
            how = f" ({by_top} by top k)" if term == "consistency" else ""
            logger.info("%s: %d of %d disparity pairs have what the term needs%s", term, count, len(pairs), how)
            if count == 0:
                raise InvalidInput(f"train.loss.{term} is on, but no disparity pair of the set {_LACKS[term]}")
        for name in self._alignment.weigh_by:
            if all(pair.discrepancies.get(name) is None for pair in pairs):
                raise InvalidInput(
                    f"train.loss.weigh_by names {name}, but no disparity pair of the set has it: measure it when "
                    "mining (discrepancies in the job's spec), or leave it out."
                )

    def _has_candidates(self, sample: Sample) -> bool:
        """Whether its answers can be compared. There may be only one, which teaches nothing."""
        on = self._alignment.consistency > 0 and self._alignment.consistency_by != "top_k"
        return on and bool(sample.votes) and not self.uses_top(sample)

    def _answers(self, sample: Sample) -> list[Target]:
        if not self._has_candidates(sample):
            return [answer_target(sample)]
        shares = vote_shares(sample.answer, sample.votes, sample.student_answer)
        if len(shares) < 2:
            return [answer_target(sample)]
        (_, first), *others = shares.items()
        rest = [Target(sample, TargetKind.CANDIDATE, text, share) for text, share in others]
        return [Target(sample, TargetKind.ANSWER, sample.answer, first), *rest]

    def _rationale(self, sample: Sample) -> list[Target]:
        if self._alignment.rationale <= 0 or not sample.rationale or not self._can_explain(sample.task):
            return []
        return [Target(sample, TargetKind.RATIONALE, sample.rationale)]


_LACKS = {
    "consistency": "has the teacher's top tokens in the student's vocabulary, or votes: set discrepancies.top_k with a "
    "teacher that returns log-probabilities, or identifier.votes, or leave the term out.",
    "rationale": "has a rationale with a task that has an explain prompt: set discrepancies.reasoning to true when "
    "collecting, or leave the term out.",
    "attention": "has the teacher's attention map: set discrepancies.attention to true when collecting, or leave the "
    "term out.",
}
