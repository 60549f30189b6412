"""The gate as a pure function."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.trainer.worker.gate import decide
from shared.contracts import Evaluation, GateSpec, TaskScore
from shared.vqa.intervals import gain_interval

share = st.floats(0, 1)
scores = st.builds(
    TaskScore,
    questions=st.integers(1, 500),
    agreement_before=share,
    agreement_after=share,
    benchmark_questions=st.just(0),
)
evaluations = st.builds(
    Evaluation, overall=scores, tasks=st.dictionaries(st.sampled_from(["chart", "text", "know"]), scores, max_size=3)
)
gates = st.builds(GateSpec, min_gain=st.floats(0, 0.5), tolerance=st.floats(0, 0.5))


def score(before: float | None, after: float | None, questions: int = 100) -> TaskScore:
    return TaskScore(questions=questions, agreement_before=before, agreement_after=after)


@given(evaluation=evaluations, gate=gates)
def test_what_is_promoted_is_better_and_nothing_is_much_worse(evaluation: Evaluation, gate: GateSpec) -> None:
    overall = evaluation.overall
    assert overall.agreement_before is not None
    assert overall.agreement_after is not None
    gain = overall.agreement_after - overall.agreement_before
    worst = max([(s.agreement_before or 0) - (s.agreement_after or 0) for s in evaluation.tasks.values()], default=-1.0)
    decision = decide(evaluation, gate)
    if decision.promote:
        assert gain > 0
        assert gain >= gate.min_gain - 1e-6
        assert worst <= gate.tolerance + 1e-6
    elif gain > max(gate.min_gain, 0) + 1e-6:
        assert worst > gate.tolerance - 1e-6
    assert decision.reason.endswith(".")


def test_the_reason_says_where_a_version_was_still_thinking() -> None:
    thinking = Evaluation(overall=score(0.5, 0.9), tasks={}, unfinished_before=2, unfinished_after=7)
    reason = decide(thinking, GateSpec()).reason
    assert (
        "still thinking on 2 questions" in reason and "the candidate on 7 (see MPA_STUDENT_REASONING_TOKENS)" in reason
    )
    assert (
        "thinking"
        not in decide(thinking.model_copy(update={"unfinished_before": 0, "unfinished_after": 0}), GateSpec()).reason
    )


@given(evaluation=evaluations, gate=gates)
def test_the_switch_keeps_everything(evaluation: Evaluation, gate: GateSpec) -> None:
    assert not decide(evaluation, gate.model_copy(update={"promote": False})).promote


@given(evaluation=evaluations, gate=gates, looser=st.floats(0, 0.5))
def test_a_looser_gate_never_refuses_what_a_tighter_one_lets_through(
    evaluation: Evaluation, gate: GateSpec, looser: float
) -> None:
    loose = gate.model_copy(update={"tolerance": gate.tolerance + looser, "min_gain": gate.min_gain * (1 - looser)})
    if decide(evaluation, gate).promote:
        assert decide(evaluation, loose).promote


def test_no_held_out_pair_means_no_promotion() -> None:
    empty = Evaluation(overall=score(None, None, 0), tasks={})
    decision = decide(empty, GateSpec())
    assert not decision.promote
    assert "held-out" in decision.reason


def test_equal_is_not_better() -> None:
    decision = decide(Evaluation(overall=score(0.5, 0.5), tasks={}), GateSpec())
    assert not decision.promote
    assert "Not better" in decision.reason


def test_the_task_that_lost_is_named_with_its_numbers() -> None:
    tasks = {"chart": score(0.4, 0.8), "know": score(0.9, 0.8)}
    decision = decide(Evaluation(overall=score(0.6, 0.8), tasks=tasks), GateSpec(tolerance=0.02))
    assert not decision.promote
    assert "know (90.0% to 80.0%)" in decision.reason


def test_a_loss_of_exactly_the_tolerance_is_allowed() -> None:
    tasks = {"chart": score(0.4, 0.8), "know": score(0.90, 0.88)}
    assert decide(Evaluation(overall=score(0.6, 0.8), tasks=tasks), GateSpec(tolerance=0.02)).promote


@pytest.mark.parametrize(
    ("gained", "lost", "questions", "promoted"),
    [(1, 0, 1, False), (4, 0, 4, False), (5, 0, 100, False), (6, 0, 6, True), (7, 3, 50, False), (40, 10, 100, True)],
)
def test_a_gain_that_chance_explains_keeps_the_old_version(
    gained: int, lost: int, questions: int, promoted: bool
) -> None:
    after = 0.3 + (gained - lost) / questions * 0.5
    overall = score(0.3, after, questions).model_copy(update={"gain_interval": gain_interval(gained, lost, questions)})
    evaluation = Evaluation(overall=overall, tasks={})
    decision = decide(evaluation, GateSpec())
    assert decision.promote is promoted
    assert "95 % interval of the gain" in decision.reason
    assert ("Too few held-out questions" in decision.reason) is not promoted
    assert decide(evaluation, GateSpec(min_questions=questions)).promote
    assert decide(evaluation, GateSpec(min_questions=questions + 1)).promote is promoted
