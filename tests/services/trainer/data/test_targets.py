"""Which texts of a sample are trained on."""

from __future__ import annotations

from dataclasses import replace

from services.trainer.data.dataset import Sample
from services.trainer.data.targets import TargetMaker
from services.trainer.losses import TargetKind
from shared.contracts import LossSpec


def targets_for(alignment: LossSpec, sample: Sample, has_top: bool = False) -> list[tuple[TargetKind, str]]:
    maker = TargetMaker(alignment, lambda _: has_top, lambda task: task == "chart")
    return [(target.kind, target.text) for target in maker.targets(sample)]


SAMPLE = Sample(
    "p", "image", None, "chart", "what?", "red", student_answer="blue", votes=("red", "pink"), rationale="it is red"
)


def test_targets_are_what_the_terms_ask_for() -> None:
    answer = (TargetKind.ANSWER, "red")
    candidates = [(TargetKind.CANDIDATE, "blue"), (TargetKind.CANDIDATE, "pink")]
    every = LossSpec(consistency=0.1, rationale=0.1)
    assert targets_for(LossSpec(), SAMPLE) == [answer]
    assert targets_for(every, SAMPLE) == [answer, *candidates, (TargetKind.RATIONALE, "it is red")]
    assert targets_for(every, SAMPLE, has_top=True) == [answer, (TargetKind.RATIONALE, "it is red")]
    by_candidates, by_tokens = (every.model_copy(update={"consistency_by": by}) for by in ("candidates", "top_k"))
    assert targets_for(by_candidates, SAMPLE, has_top=True)[1:3] == candidates
    assert targets_for(by_tokens, SAMPLE) == [answer, (TargetKind.RATIONALE, "it is red")]
    assert targets_for(every, replace(SAMPLE, is_replay=True)) == [answer]
    assert targets_for(every, replace(SAMPLE, task="know"))[-1][0] == TargetKind.CANDIDATE
