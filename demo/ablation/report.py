"""The ablation's result: a table for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import mean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table

from demo.ablation.arms import NOTHING
from demo.ablation.testing import Questions, Scores, score
from demo.world.vocabulary import FAMILIES

Right = Mapping[str, Sequence[Sequence[int]]]
"""By arm, a list of 0 and 1 a seed, one a question."""


def summarise(right: Right, teacher: Sequence[int], asked: Questions) -> dict[str, Any]:
    """Percent, as [mean, spread] over the seeds (spread: sample standard deviation, 0 for one seed), by arm."""
    families = asked.families
    before = [bool(one) for one in right[NOTHING][0]]
    start = score(before, before, families)
    ceiling = score([bool(one) for one in teacher], before, families)
    arms = {
        name: _arm([score([bool(one) for one in run], before, families) for run in runs], start, ceiling)
        for name, runs in right.items()
    }
    return {"questions": len(families), "teacher": _percent(asdict(ceiling)), "arms": arms}


def show(summary: Mapping[str, Any], console: Console) -> None:
    """One line an arm: accuracy overall and by family, gap closed, and what was forgotten."""
    table = Table(title=f"Accuracy on {summary['questions']} test questions, percent", title_justify="left")
    for column in ("arm", "overall", *FAMILIES, "gap closed", "forgotten", "worst family"):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for name, arm in summary["arms"].items():
        cells = [_with_spread(arm["overall"]), *(_with_spread(arm["families"][family]) for family in FAMILIES)]
        closed = f"{arm['gap_closed'][0]:.0f} %" if name != NOTHING else ""
        table.add_row(name, *cells, closed, f"{arm['forgotten'][0]:.1f}", f"{arm['worst_family'][0]:+.1f}")
    teacher = summary["teacher"]
    table.add_row(
        "teacher", f"{teacher['overall']:.1f}", *(f"{teacher['families'][family]:.1f}" for family in FAMILIES)
    )
    console.print(table)


def markdown(summary: Mapping[str, Any]) -> str:
    """The same as `show`, for docs/method.md."""
    names = ("arm", "overall", *FAMILIES, "gap closed", "forgotten", "worst family")
    lines = [f"| {' | '.join(names)} |", f"|---{'|---:' * (len(names) - 1)}|"]
    for name, arm in summary["arms"].items():
        families = [_with_spread(arm["families"][family]) for family in FAMILIES]
        closed = "" if name == NOTHING else f"{arm['gap_closed'][0]:.0f} %"
        cells = [name, _with_spread(arm["overall"]), *families, closed, f"{arm['forgotten'][0]:.1f}"]
        lines.append(f"| {' | '.join([*cells, format(arm['worst_family'][0], '+.1f')])} |")
    teacher = summary["teacher"]
    families = [f"{teacher['families'][family]:.1f}" for family in FAMILIES]
    lines.append(f"| teacher | {teacher['overall']:.1f} | {' | '.join(families)} | | | |")
    return "\n".join(lines) + "\n"


def show_labels(mined: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Precision and recall of the kept labels, mean over the seeds."""
    table = Table(title="Labels kept, by rule", title_justify="left")
    for column in ("rule", "kept", "precision", "recall"):
        table.add_column(column, justify="left" if column == "rule" else "right")
    for rule in mined[0]["labels"]:
        kept, precision, recall = (
            mean(one["labels"][rule][key] for one in mined) for key in ("kept", "precision", "recall")
        )
        table.add_row(rule, f"{kept:.0f}", f"{precision:.1%}", f"{recall:.1%}")
    console.print(table)


def _arm(scores: Sequence[Scores], start: Scores, ceiling: Scores) -> dict[str, Any]:
    gap = ceiling.overall - start.overall
    changes = [[one.families[family] - start.families[family] for family in FAMILIES] for one in scores]
    return {
        "overall": _spread([one.overall for one in scores]),
        "families": {family: _spread([one.families[family] for one in scores]) for family in FAMILIES},
        "gap_closed": _spread([(one.overall - start.overall) / gap for one in scores]),
        "forgotten": _spread([one.forgotten for one in scores]),
        "forgotten_by_family": {
            family: _spread([one.forgotten_by_family[family] for one in scores]) for family in FAMILIES
        },
        "worst_family": _spread([min(change) for change in changes]),
    }


def _spread(values: Sequence[float]) -> list[float]:
    """Mean and standard deviation in percent."""
    return [round(100 * mean(values), 2), round(100 * stdev(values), 2) if len(values) > 1 else 0.0]


def _percent(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _percent(value) if isinstance(value, Mapping) else round(100 * value, 2) for name, value in values.items()
    }


def _with_spread(cell: Sequence[float]) -> str:
    return f"{cell[0]:.1f} ± {cell[1]:.1f}"
