"""What a loss specification comes to: presets filled in, and what of the set each part needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from shared.contracts import DiscrepancySpec, JobSpec, LossSpec
from shared.errors import InvalidInput

Discrepancy = Literal["vote_share", "confidence", "reasoning", "attention"]
TOP_K = 20
"""Alternatives a token that top-k consistency asks for, the most that OpenAI's dialect allows."""


@dataclass(frozen=True)
class Alignment:
    """The alignment loss without anything left open. λ of 0: the term is off and costs nothing."""

    weigh_by: tuple[Discrepancy, ...] = ()
    consistency: float = 0.0
    consistency_by: Literal["auto", "top_k", "candidates"] = "auto"
    rationale: float = 0.0
    attention: float = 0.0


PRESETS: dict[str, Alignment] = {
    "paper": Alignment(),
    "replay": Alignment(),
    "discrepancy": Alignment(weigh_by=("vote_share",), consistency=0.3),
}


def resolve(spec: LossSpec) -> Alignment:
    """The preset with the fields that the specification gives."""
    preset = PRESETS[spec.preset]
    return Alignment(
        weigh_by=preset.weigh_by if spec.weigh_by is None else tuple(spec.weigh_by),
        consistency=_given(spec.consistency, preset.consistency),
        consistency_by=spec.consistency_by,
        rationale=_given(spec.rationale, preset.rationale),
        attention=_given(spec.attention, preset.attention),
    )


def check_discrepancies(loss: LossSpec, measured: DiscrepancySpec) -> None:
    """Raises InvalidInput if the loss uses a discrepancy that the job does not measure."""
    alignment = resolve(loss)
    for name, needed in _needs(alignment).items():
        if needed and not getattr(measured, name):
            raise InvalidInput(
                f"train.loss uses {name}, which the job does not measure: set discrepancies.{name} to true, or choose "
                "train.loss.preset 'replay', which needs no discrepancy."
            )
    if alignment.consistency > 0 and alignment.consistency_by == "top_k" and measured.top_k == 0:
        raise InvalidInput(
            "train.loss.consistency_by is top_k, but discrepancies.top_k is 0: set it to 20, or use consistency_by "
            "'candidates', which any teacher allows."
        )


def needs_logprobs(loss: LossSpec) -> bool:
    """Whether the loss can do nothing with a teacher that tells no log-probabilities."""
    alignment = resolve(loss)
    by_tokens = alignment.consistency > 0 and alignment.consistency_by == "top_k"
    return by_tokens or "confidence" in alignment.weigh_by or "reasoning" in alignment.weigh_by


def check_answers_apart(spec: JobSpec) -> None:
    """Raises InvalidInput if the job needs log-probabilities of the teacher's answers and gets none of them.

    In one-shot mode question and answer come as one sampled text, so no token is known to be the answer's.
    """
    if spec.annotator.mode != "one_shot":
        return
    alignment = resolve(spec.train.loss)
    wanted = {
        "identifier.min_confidence": spec.identifier.min_confidence > 0,
        "train.loss.weigh_by confidence": "confidence" in alignment.weigh_by,
        "train.loss.consistency_by top_k": alignment.consistency > 0 and alignment.consistency_by == "top_k",
    }
    for name, needed in wanted.items():
        if needed:
            raise InvalidInput(
                f"{name} needs the log-probabilities of the teacher's answer, which annotator.mode one_shot does not "
                "have: use mode two_step, or leave it out (train.loss.preset 'discrepancy' works with both modes)."
            )


def completed(spec: JobSpec) -> JobSpec:
    """``spec`` with the discrepancies that its loss needs switched on, unless it says itself whether to measure them.

    A teacher without log-probabilities does no harm to ``consistency_by: auto``: then the votes are compared.
    """
    alignment = resolve(spec.train.loss)
    needed: dict[str, Any] = {name: True for name, wanted in _needs(alignment).items() if wanted}
    if alignment.consistency > 0 and alignment.consistency_by != "candidates":
        needed["top_k"] = TOP_K
    missing = {name: value for name, value in needed.items() if name not in spec.discrepancies.model_fields_set}
    if not missing:
        return spec
    return spec.model_copy(update={"discrepancies": spec.discrepancies.model_copy(update=missing)})


def _needs(alignment: Alignment) -> dict[str, bool]:
    return {
        "confidence": "confidence" in alignment.weigh_by,
        "reasoning": "reasoning" in alignment.weigh_by or alignment.rationale > 0,
        "attention": "attention" in alignment.weigh_by or alignment.attention > 0,
    }


def _given(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
