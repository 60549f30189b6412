"""Leaves out texts that the student's tokenizer cannot learn, so that one such text does not end a training."""

from __future__ import annotations

import logging
from dataclasses import replace

from services.trainer.data.dataset import Sample, TrainingSet
from shared.literal import escapes_of
from shared.vlm.loading import LoadedModel

logger = logging.getLogger(__name__)


def leave_out_unlearnable(data: TrainingSet, loaded: LoadedModel) -> TrainingSet:
    """``data`` without pairs whose answer is not a text for the tokenizer of ``loaded``: it has no tokens, or holds a
    special token that this tokenizer cannot read as text (few do that). Such rationales and votes are left out alone.
    """
    tokenizer = loaded.tokenizer
    escapes = escapes_of(tokenizer)

    def is_text(text: str) -> bool:
        if escapes.refused_in(text):
            return False
        return bool(tokenizer(escapes.write(text), add_special_tokens=False)["input_ids"])

    def trimmed(sample: Sample) -> Sample:
        if not escapes.refused:
            return sample
        said, why = sample.student_answer, sample.rationale
        return replace(
            sample,
            votes=tuple(vote for vote in sample.votes if not escapes.refused_in(vote)),
            student_answer=said if said and is_text(said) else None,
            rationale=why if why and is_text(why) else None,
        )

    fine = [is_text(sample.answer) for sample in data.samples]
    if not all(fine):
        first = data.samples[fine.index(False)]
        count = fine.count(False)
        logger.warning(
            "%d pairs are left out, because the student cannot read their answers as plain text; the first is %s: %r",
            count,
            first.pair_id,
            first.answer,
        )
    kept = tuple(trimmed(sample) for sample, good in zip(data.samples, fine, strict=True) if good)
    return TrainingSet(kept, sum(fine[: data.disparity]))
