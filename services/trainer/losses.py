"""The alignment loss as a weighted sum of small terms, each a function from one batch's logits to one value a
sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

IGNORE = -100


@dataclass(frozen=True)
class Predictions:
    """What the terms look at. ``logits`` [B, T, V] predict ``labels`` [B, T]; labels that are IGNORE are no answer
    tokens.

    ``is_replay`` [B] marks replay pairs, ``weights`` [B] says how much each sample counts (1 unless a term of the
    data says else).
    """

    logits: Tensor
    labels: Tensor
    is_replay: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Term:
    """A named loss: ``compute`` maps predictions to [B] values; ``weight`` is its λ."""

    name: str
    weight: float
    compute: Callable[[Predictions], Tensor]


def answer_cross_entropy(predictions: Predictions) -> Tensor:
    """Cross-entropy of the answer, mean over its tokens so that long answers do not count more: [B], nats."""
    labels = predictions.labels
    chosen = labels != IGNORE
    losses = torch.zeros(labels.shape, dtype=torch.float32, device=labels.device)
    losses[chosen] = functional.cross_entropy(predictions.logits[chosen].float(), labels[chosen], reduction="none")
    return losses.sum(1) / chosen.sum(1).clamp(min=1)


PLAIN: tuple[Term, ...] = (Term("answer", 1.0, answer_cross_entropy),)


def alignment_loss(predictions: Predictions, terms: Sequence[Term] = PLAIN) -> Tensor:
    """Mean over the batch of the weighted samples' weighted terms: a scalar."""
    total = torch.stack([term.weight * term.compute(predictions) for term in terms]).sum(0)
    return (predictions.weights * total).mean()
