"""Checks of a job's loss: what of the set each part of it needs, and what the job has to measure for it."""

from __future__ import annotations

from typing import Any

from shared.contracts import DiscrepancySpec, JobSpec, LossSpec
from shared.errors import InvalidInput

TOP_K = 20
"""Alternatives per token that top-k consistency asks for: the most that OpenAI's dialect allows."""


def check_discrepancies(loss: LossSpec, measured: DiscrepancySpec) -> None:
    """Raises InvalidInput if the loss uses a discrepancy that the job does not measure."""
    for name, needed in _needs(loss).items():
        if needed and not getattr(measured, name):
            raise InvalidInput(
                f"train.loss uses {name}, which the job does not measure: set discrepancies.{name} to true, or choose "
                "train.loss.preset 'replay', which needs no discrepancy."
            )
    if _by_tokens(loss) and measured.top_k == 0:
        raise InvalidInput(
            "train.loss.consistency_by is top_k, but discrepancies.top_k is 0: set it to 20, or use consistency_by "
            "'candidates', which any teacher allows."
        )


def needs_logprobs(loss: LossSpec) -> bool:
    """Whether the loss requires a teacher that sends log-probabilities."""
    return _by_tokens(loss) or "confidence" in loss.weigh_by or "reasoning" in loss.weigh_by


def check_answers_apart(spec: JobSpec) -> None:
    """Raises InvalidInput if the job needs the log-probabilities of the teacher's answers but asks in one-shot mode.

    In that mode the question and the answer are one sampled text, so it is unknown which tokens are the answer's.
    """
    if spec.annotator.mode != "one_shot":
        return
    loss = spec.train.loss
    wanted = {
        "identifier.min_confidence": spec.identifier.min_confidence > 0,
        "train.loss.weigh_by confidence": "confidence" in loss.weigh_by,
        "train.loss.consistency_by top_k": _by_tokens(loss),
    }
    for name, needed in wanted.items():
        if needed:
            raise InvalidInput(
                f"{name} needs the log-probabilities of the teacher's answer, which annotator.mode one_shot does not "
                "have: use mode two_step, or leave it out (train.loss.preset 'discrepancy' works with both modes)."
            )


def completed(spec: JobSpec) -> JobSpec:
    """``spec`` with the discrepancies that its loss needs turned on, unless it says itself whether to measure them.

    With ``consistency_by: auto`` the teacher may lack log-probabilities: then the loss compares the votes.
    """
    loss = spec.train.loss
    needed: dict[str, Any] = {name: True for name, wanted in _needs(loss).items() if wanted}
    if loss.consistency > 0 and loss.consistency_by != "candidates":
        needed["top_k"] = TOP_K
    missing = {name: value for name, value in needed.items() if name not in spec.discrepancies.model_fields_set}
    if not missing:
        return spec
    return spec.model_copy(update={"discrepancies": spec.discrepancies.model_copy(update=missing)})


def _needs(loss: LossSpec) -> dict[str, bool]:
    return {
        "confidence": "confidence" in loss.weigh_by,
        "reasoning": "reasoning" in loss.weigh_by or loss.rationale > 0,
        "attention": "attention" in loss.weigh_by or loss.attention > 0,
    }


def _by_tokens(loss: LossSpec) -> bool:
    return loss.consistency > 0 and loss.consistency_by == "top_k"
