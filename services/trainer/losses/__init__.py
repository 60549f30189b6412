"""The alignment loss: a weighted sum of small terms, each a module with its formula, shapes and source.

    L = mean over the batch of w(d) · [CE(a) + λ_c · consistency + λ_r · CE(rationale) + λ_a · JS(attention)]

over disparity pairs, and of plain CE(a) over replay pairs. A term whose λ is 0 is left out, and so are its targets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from services.trainer.losses.answer import answer_cross_entropy
from services.trainer.losses.attention import attention_divergence
from services.trainer.losses.candidates import candidate_divergence
from services.trainer.losses.predictions import IGNORE, Predictions, TargetKind, TopTokens
from services.trainer.losses.rationale import rationale_cross_entropy
from services.trainer.losses.top_k import top_k_divergence
from shared.contracts import LossSpec

__all__ = ["IGNORE", "PLAIN", "Predictions", "TargetKind", "Term", "TopTokens", "alignment_loss", "terms_of"]


@dataclass(frozen=True)
class Term:
    """A named loss: ``compute`` maps predictions to [B] values; ``weight`` is its λ."""

    name: str
    weight: float
    compute: Callable[[Predictions], Tensor]


PLAIN: tuple[Term, ...] = (Term("answer", 1.0, answer_cross_entropy),)


def terms_of(alignment: LossSpec) -> tuple[Term, ...]:
    """The terms that are on."""
    terms = [
        *PLAIN,
        Term("consistency", alignment.consistency, consistency),
        Term("rationale", alignment.rationale, rationale_cross_entropy),
        Term("attention", alignment.attention, attention_divergence),
    ]
    return tuple(term for term in terms if term.weight > 0)


def consistency(predictions: Predictions) -> Tensor:
    """Token-level where a sample has the teacher's top k, answer-level where it has candidates: [B], nats."""
    return top_k_divergence(predictions) + candidate_divergence(predictions)


def alignment_loss(predictions: Predictions, terms: Sequence[Term] = PLAIN) -> tuple[Tensor, dict[str, float]]:
    """Mean over the batch of the weighted samples' weighted terms, a scalar; and each term's own mean before its λ."""
    values = {term.name: term.compute(predictions) for term in terms}
    total = torch.stack([term.weight * values[term.name] for term in terms]).sum(0)
    means = {name: float(value.detach().mean()) for name, value in values.items()}
    return (predictions.weights * total).mean(), means
