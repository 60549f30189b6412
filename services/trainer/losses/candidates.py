"""Answer-level consistency: teacher's vote shares against the student's probabilities of the same answers.

It needs neither logits nor a shared tokenizer, so hosted teachers allow it. The candidates of a pair are the teacher's
answer, the other answers among its votes, and what the student said. The student's probability of a candidate is the
softmax of its sequence log-probabilities over the candidates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from services.trainer.losses.predictions import Predictions
from shared.vqa.agreement import agree

SMOOTHING = 0.1
"""Votes that are added to every candidate's: three votes are too few to call any answer impossible."""
MOST = 4


def vote_shares(answer: str, votes: Sequence[str], student_answer: str | None) -> dict[str, float]:
    """The candidates with the teacher's smoothed shares (sum 1), its answer first, at most `MOST`.

    The answer itself, which the teacher gave before the votes, counts as a vote. Texts that agree are one candidate,
    spelt as in the first of them.
    """
    counts = {answer: 1}
    for vote in votes:
        text = _spelt_before(vote, counts)
        counts[text] = counts.get(text, 0) + 1
    said = _spelt_before(student_answer, counts) if student_answer else answer
    counts.setdefault(said, 0)
    others = [entry for entry in counts.items() if entry[0] != answer and entry[0].strip()]
    chosen = [(answer, counts[answer]), *sorted(others, key=lambda entry: (entry[0] != said, -entry[1]))][:MOST]
    total = sum(number + SMOOTHING for _, number in chosen)
    return {text: (number + SMOOTHING) / total for text, number in chosen}


def candidate_divergence(predictions: Predictions) -> Tensor:
    """KL(teacher ‖ student) over each sample's candidates: [B], nats, 0 for samples with fewer than two."""
    shares = predictions.shares
    if shares is None:
        return predictions.zeros()
    rows = ~shares.isnan()
    whole, sample = predictions.logprobs.sum(1)[rows], predictions.sample[rows]
    teacher = shares[rows].to(whole.dtype)
    # softmax over rows of one sample, by its largest value for safety
    largest = whole.new_full((predictions.samples,), -torch.inf)
    largest = largest.scatter_reduce(0, sample, whole.detach(), "amax")[sample]
    scaled = whole - largest
    total = scaled.new_zeros(predictions.samples).index_add(0, sample, scaled.exp())
    student = scaled - total.clamp(min=1e-30).log()[sample]
    return scaled.new_zeros(predictions.samples).index_add(0, sample, teacher * (teacher.log() - student))


def _spelt_before(text: str, known: Iterable[str]) -> str:
    """The first of the ``known`` texts that agrees with ``text``, or ``text`` itself."""
    return next((one for one in known if agree(text, one)), text)
