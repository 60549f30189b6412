"""The gate: whether a candidate may replace the active checkpoint. A pure function of what was measured."""

from __future__ import annotations

from dataclasses import dataclass

from shared.contracts import Evaluation, GateSpec

_ROUNDING = 1e-9


@dataclass(frozen=True)
class GateDecision:
    """``reason`` explains the decision, with the numbers."""

    promote: bool
    reason: str


def decide(evaluation: Evaluation, spec: GateSpec) -> GateDecision:
    """Promote iff held-out agreement with the teacher grew, by at least ``min_gain``, and no task lost more than
    ``tolerance``. Where the interval of the gain contains 0, there must be ``min_questions`` of them.
    """
    overall = evaluation.overall
    before, after = overall.agreement_before, overall.agreement_after
    if before is None or after is None or overall.questions == 0:
        return GateDecision(
            False,
            "There are no held-out pairs to measure a gain on: submit more images or a larger gate.held_out_fraction.",
        )
    gain = after - before
    measured = (
        f"agreement with the teacher on {overall.questions} held-out questions went from {before:.1%} to {after:.1%}"
    )
    interval = overall.gain_interval
    if interval is not None:
        measured += f" (95 % interval of the gain: {100 * interval[0]:+.1f} to {100 * interval[1]:+.1f} points)"
    if evaluation.unfinished_before or evaluation.unfinished_after:
        measured += (
            f"; the active version ran out of tokens while it was still thinking on {evaluation.unfinished_before} "
            f"questions, and the candidate on {evaluation.unfinished_after} (see MPA_STUDENT_REASONING_TOKENS)"
        )
    if gain <= _ROUNDING:
        return GateDecision(False, f"Not better than the active version: {measured}.")
    if gain < spec.min_gain - _ROUNDING:
        return GateDecision(False, f"The gain is below gate.min_gain ({spec.min_gain:.1%}): {measured}.")
    enough = spec.min_questions is not None and overall.questions >= spec.min_questions
    if interval is not None and interval[0] <= 0 and not enough:
        return GateDecision(
            False,
            f"Too few held-out questions to tell the gain from chance: {measured}. Submit more images or a larger "
            "gate.held_out_fraction, or set gate.min_questions to promote on fewer.",
        )
    worse = _losses(evaluation, spec.tolerance)
    if worse:
        listed = ", ".join(f"{task} ({before:.1%} to {after:.1%})" for task, before, after in worse)
        return GateDecision(
            False, f"Some tasks lost more than gate.tolerance ({spec.tolerance:.1%}): {listed}; overall {measured}."
        )
    if not spec.promote:
        return GateDecision(False, f"Good enough to promote, but gate.promote is off: {measured}.")
    return GateDecision(True, f"Better: {measured}.")


def _losses(evaluation: Evaluation, tolerance: float) -> list[tuple[str, float, float]]:
    """Tasks that lost more than ``tolerance``, the worst first."""
    lost = [
        (task, score.agreement_before, score.agreement_after)
        for task, score in evaluation.tasks.items()
        if score.questions and score.agreement_before is not None and score.agreement_after is not None
    ]
    return sorted((x for x in lost if x[1] - x[2] > tolerance + _ROUNDING), key=lambda x: x[2] - x[1])
