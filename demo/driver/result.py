"""The demo's result: `result.json` for machines, a table for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from demo.driver.client_load import LoadResult
from shared.contracts import JobReport, Verdict


def build_result(
    report: JobReport, load: LoadResult, *, seconds: float, log: Path, label_accuracy: float | None
) -> dict[str, Any]:
    """The document that `.mpa/demo/result.json` holds; accuracies are fractions 0-1."""
    status = report.status
    scores = status.evaluation.tasks if status.evaluation else {}
    overall = status.evaluation.overall if status.evaluation else None
    accuracy = {
        name: {"before": s.accuracy_before, "after": s.accuracy_after, "teacher": s.accuracy_teacher}
        for name, s in [*sorted(scores.items()), *([("overall", overall)] if overall else [])]
    }
    return {
        "seconds": round(seconds, 1),
        "images": status.images.total,
        "pairs": status.pairs,
        "verdicts": {verdict.value: status.verdicts.get(verdict, 0) for verdict in Verdict},
        "overall": accuracy.pop("overall", {}),
        "accuracy": accuracy,
        "agreement": {"before": overall.agreement_before, "after": overall.agreement_after} if overall else {},
        "label_accuracy": label_accuracy,
        "swap": {"served": load.served, "failed": load.failed, "versions": dict(load.versions)},
        "teacher_tokens": {"spent": status.teacher_tokens.spent, "saved": status.teacher_tokens.saved},
        "outcome": status.outcome.value if status.outcome else None,
        "reason": status.reason,
        "seed": report.spec.seed,
        "seconds_by_state": report.seconds,
        "checkpoint": status.checkpoint_url,
        "set": status.set_url,
        "log": str(log),
    }


def write_result(result: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(result, indent=2) + "\n")


def print_result(result: dict[str, Any], console: Console) -> None:
    """The funnel, the accuracies, the swap, the tokens and where everything is."""
    console.print(_funnel_table(result))
    console.print(_accuracy_table(result))
    swap, tokens = result["swap"], result["teacher_tokens"]
    by_version = ", ".join(f"{count} by {version}" for version, count in swap["versions"].items())
    colour = "green" if swap["failed"] == 0 else "red"
    lines = {
        "requests during training and swap": f"[{colour}]{swap['served']} served, {swap['failed']} failed[/]",
        "answers by checkpoint": by_version,
        "teacher tokens": f"{tokens['spent']:,} spent, {tokens['saved']:,} saved by verifying disagreements only",
        "outcome": f"{result['outcome']}: {result['reason']}",
        "checkpoint": result["checkpoint"],
        "disparity set": result["set"],
        "log": result["log"],
        "time": f"{result['seconds']:.0f} s",
    }
    if result["label_accuracy"] is not None:
        lines["pseudo-labels"] = f"{100 * result['label_accuracy']:.1f}% of the disparity set right (the world's truth)"
    for name, text in lines.items():
        console.print(f"[bold]{name}[/]: {text}", soft_wrap=True, highlight=False)


def _funnel_table(result: dict[str, Any]) -> Table:
    table = Table(title=f"{result['images']} images → {result['pairs']} pairs", title_justify="left")
    table.add_column("verdict")
    table.add_column("pairs", justify="right")
    for verdict, count in result["verdicts"].items():
        style = "bold green" if verdict == Verdict.DISPARITY.value else ""
        table.add_row(f"{verdict} (trained on)" if style else verdict, str(count), style=style)
    return table


def _accuracy_table(result: dict[str, Any]) -> Table:
    table = Table(title="Accuracy on held-out labelled images", title_justify="left")
    for column in ("family", "student before", "student after", "gain", "teacher", "gap closed"):
        table.add_column(column, justify="left" if column == "family" else "right")
    for name, score in [*result["accuracy"].items(), ("overall", result["overall"])]:
        if not score:
            continue
        before, after, teacher = score["before"], score["after"], score["teacher"]
        if before is None or after is None:
            continue
        closed = "-" if teacher is None or teacher <= before else f"{100 * (after - before) / (teacher - before):.0f}%"
        cells = (f"{100 * before:.1f}%", f"{100 * after:.1f}%", f"{100 * (after - before):+.1f}")
        shown_teacher = "-" if teacher is None else f"{100 * teacher:.1f}%"
        table.add_row(name, *cells, shown_teacher, closed, style="bold" if name == "overall" else "")
    return table
