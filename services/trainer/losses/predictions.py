"""One batch as the loss terms see it.

A sample of the batch (B of them) has one or more target texts, each a row of the tensors (R): its answer and, if a term
asks for them, the teacher's rationale and other candidate answers. All rows go through one forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

IGNORE = -100


def precise(values: Tensor) -> Tensor:
    """``values`` in float32 at least: probabilities of half-precision logits would be too coarse to subtract."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


class TargetKind(IntEnum):
    """What a target text is to its sample."""

    ANSWER = 0
    RATIONALE = 1
    CANDIDATE = 2


@dataclass(frozen=True)
class TopTokens:
    """The teacher's likeliest tokens where a row's labels are: ``ids`` and ``logprobs`` [R, T, K]; -inf is padding.

    A position whose log-probabilities are all -inf has none.
    """

    ids: Tensor
    logprobs: Tensor


@dataclass(frozen=True)
class Predictions:
    """``logits`` [R, T, V] predict ``labels`` [R, T]; labels that are IGNORE are not learned.

    ``sample`` and ``kind`` [R] say whose row it is and what it holds; ``shares`` [R] is the teacher's probability of
    the text among its sample's candidate answers, NaN for other rows. ``is_replay`` and ``weights`` are [B]. The maps
    are [B, G * G] with sum 1, NaN where there is none.
    """

    logits: Tensor
    labels: Tensor
    sample: Tensor
    kind: Tensor
    is_replay: Tensor
    weights: Tensor
    shares: Tensor | None = None
    top: TopTokens | None = None
    teacher_maps: Tensor | None = None
    student_maps: Tensor | None = None

    @property
    def samples(self) -> int:
        return len(self.is_replay)

    @cached_property
    def logprobs(self) -> Tensor:
        """Log-probability (nats, float32 at least) of each label, [R, T]; 0 where there is none."""
        chosen = self.labels != IGNORE
        values = self.zeros(*self.labels.shape)
        values[chosen] = -functional.cross_entropy(precise(self.logits[chosen]), self.labels[chosen], reduction="none")
        return values

    def zeros(self, *shape: int) -> Tensor:
        """Zeros of ``shape``, by default one for each sample: [B]; float32 at least."""
        dtype = torch.promote_types(self.logits.dtype, torch.float32)
        return torch.zeros(shape or (self.samples,), dtype=dtype, device=self.logits.device)

    def mean_loss(self, kind: TargetKind) -> Tensor:
        """Cross-entropy of the rows of ``kind``, mean over their tokens: [B], nats; 0 where there is none."""
        lengths = (self.labels != IGNORE).sum(1).clamp(min=1)
        rows = self.kind == kind
        return self.by_sample((-self.logprobs.sum(1) / lengths)[rows], rows)

    def by_sample(self, values: Tensor, rows: Tensor) -> Tensor:
        """``values`` of the chosen ``rows`` [R, bool], at most one per sample, laid out by sample: [B]."""
        return self.zeros().index_add(0, self.sample[rows], values)
