"""How clean the kept labels are, by the world's own answers: precision and recall of what each rule keeps.

They are read for evaluation only; only the ground-truth arm trains on them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from demo.ablation.mining import Mined

Rule = Callable[[Mined], bool]
RULES: dict[str, Rule] = {
    "student wrong": lambda one: not one.student_right,
    "2 of 3 votes agree": lambda one: _votes(one) > 0.5,
    "all votes agree": lambda one: _votes(one) == 1.0,
    "teacher's probability >= 0.9": lambda one: _probability(one) >= 0.9,
    "all votes and probability >= 0.9": lambda one: _votes(one) == 1.0 and _probability(one) >= 0.9,
}


def label_quality(mined: Sequence[Mined]) -> dict[str, dict[str, float]]:
    """By rule: ``kept`` pairs among those that the student answers differently, ``precision`` (share of them whose
    label is right) and ``recall`` (share of the right labels that are kept). ``everything`` counts all pairs.
    """
    disagreeing = [one for one in mined if not one.student_right]
    right = sum(map(_right, disagreeing))
    table = {"everything": _line(mined, sum(map(_right, mined)))}
    return table | {name: _line([one for one in disagreeing if rule(one)], right) for name, rule in RULES.items()}


def _line(kept: Sequence[Mined], right: int) -> dict[str, float]:
    good = sum(map(_right, kept))
    return {"kept": len(kept), "precision": good / max(1, len(kept)), "recall": good / max(1, right)}


def _right(one: Mined) -> bool:
    return one.row.teacher_answer == one.truth


def _votes(one: Mined) -> float:
    return one.row.vote_share or 0.0


def _probability(one: Mined) -> float:
    return math.exp(one.row.teacher_logprob) if one.row.teacher_logprob is not None else 0.0
