"""Whether a job mines another round, and which candidate it ends with. Pure functions of what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from services.trainer.run_config import EvaluationResult
from services.trainer.worker.gate import decide
from shared.contracts import Evaluation, JobSpec, RoundReport
from shared.sets.rounds import counts_of, disparity_rate, failed_questions, task_shares

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Mined:
    """What a round's rows say about the student that was asked, before any training."""

    report: RoundReport
    worth_training: bool


def mined(spec: JobSpec, number: int, student: str, rows: pa.Table, train_pairs: int) -> Mined:
    """``rows``: of this round alone; ``train_pairs``: disparity pairs that may be trained on.

    The first round is always trained, so that a job with several rounds never ends with less than a job with one.
    """
    shares = task_shares(rows)
    rate = disparity_rate(shares)
    report = RoundReport(
        round=number,
        student=student,
        pairs=rows.num_rows,
        verdicts=counts_of(rows),
        disparity_rate=rate,
        tasks=shares,
        failed_questions=failed_questions(rows, spec.seed + number),
    )
    if train_pairs == 0:
        return Mined(report.model_copy(update={"reason": "there are no disparity pairs to train on"}), False)
    if number > 1 and _below(rate, spec.rounds.min_disparity):
        return Mined(report.model_copy(update={"reason": _few(rate, spec)}), False)
    return Mined(report, True)


def trained(
    spec: JobSpec, report: RoundReport, past: Sequence[RoundReport], candidate: str, measured: EvaluationResult
) -> RoundReport:
    """``report`` of a mined round, completed with its candidate, and whether another round follows."""
    best = best_of(past)
    gain = _gain(measured.evaluation, best)
    passed = decide(measured.evaluation, spec.gate.model_copy(update={"promote": True}))
    good = passed.promote and gain is not None and gain > _ROUNDING
    known = report.model_copy(
        update={
            "candidate": candidate,
            "evaluation": measured.evaluation,
            "evaluation_new": measured.evaluation_new,
            "gain": gain,
            "good": good,
        }
    )
    stop = _why_stop(spec, known, passed.reason)
    reason = stop or f"round {report.round + 1} follows: {_grew(gain)}"
    return known.model_copy(update={"goes_on": stop is None, "reason": reason})


def best_of(rounds: Sequence[RoundReport]) -> RoundReport | None:
    """The last good one: each good candidate was better than the good ones before it."""
    return next((report for report in reversed(rounds) if report.good), None)


def judged(rounds: Sequence[RoundReport]) -> RoundReport | None:
    """The round whose candidate the gate decides on at the end: the best, or the last one made if none is good."""
    return best_of(rounds) or next((report for report in reversed(rounds) if report.candidate is not None), None)


def _why_stop(spec: JobSpec, report: RoundReport, gate: str) -> str | None:
    if not report.good:
        return (
            f"the candidate is not good enough to go on with: {gate}"
            if report.gain is None or report.gain > 0
            else (f"the candidate is no better than before: {_grew(report.gain)}")
        )
    if report.round >= spec.rounds.max:
        return f"it was the last round (rounds.max is {spec.rounds.max}): {_grew(report.gain)}"
    if _below(report.gain, spec.rounds.min_gain):
        return f"{_grew(report.gain)}, less than rounds.min_gain ({spec.rounds.min_gain:.1%})"
    if _below(report.disparity_rate, spec.rounds.min_disparity):
        return _few(report.disparity_rate, spec)
    return None


def _gain(evaluation: Evaluation, best: RoundReport | None) -> float | None:
    """Growth of the agreement on round 1's held-out pairs; both were asked the same questions."""
    overall = evaluation.overall
    before = overall.agreement_before
    if best is not None and best.evaluation is not None:
        before = best.evaluation.overall.agreement_after
    if overall.agreement_after is None or before is None:
        return None
    return overall.agreement_after - before


def _below(value: float | None, bound: float) -> bool:
    return value is None or value < bound - _ROUNDING


def _grew(gain: float | None) -> str:
    return "no gain could be measured" if gain is None else f"held-out agreement changed by {100 * gain:+.1f} points"


def _few(rate: float | None, spec: JobSpec) -> str:
    if rate is None:
        return "no pair could be checked"
    return f"{rate:.1%} of the checked pairs are disparities, less than rounds.min_disparity " + (
        f"({spec.rounds.min_disparity:.1%})"
    )
