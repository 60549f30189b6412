"""The command: a table for people, JSON for machines, and an exit code for both."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from services.cli.doctor.diagnosis import CHECKS, diagnose
from services.cli.session import Exit, Json, err, fail, out, run, show_json
from shared.contracts import Diagnosis, FindingState

MARKS = {
    FindingState.OK: "[green]ok[/]",
    FindingState.WARNING: "[yellow]warning[/]",
    FindingState.BROKEN: "[bold red]broken[/]",
    FindingState.SKIPPED: "[dim]skipped[/]",
}


def doctor(
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds for one check; models get six times as long.")
    ] = 10.0,
    skip: Annotated[list[str] | None, typer.Option(help=f"Skip a check; may be repeated: {', '.join(CHECKS)}.")] = None,
    as_json: Json = False,
) -> None:
    """Check a deployment from the outside and say what to fix. Exit code 1: something is broken."""
    chosen = skip or []
    unknown = [name for name in chosen if name not in CHECKS]
    if unknown:
        fail(f"--skip {unknown[0]}: unknown check; choose from {', '.join(CHECKS)}.", Exit.BAD_INPUT)
    found: Diagnosis = run(lambda settings: diagnose(settings, timeout, chosen))
    if as_json:
        show_json(found)
    else:
        _show(found)
    if not found.healthy:
        raise typer.Exit(int(Exit.ERROR))


def _show(found: Diagnosis) -> None:
    table = Table("check", "", "found", "what to do", box=None, pad_edge=False)
    for column in table.columns[2:]:
        column.overflow = "fold"
    for one in found.findings:
        table.add_row(one.check, MARKS[one.state], _plain(one.found), _plain(one.fix))
    out.print(table)
    broken = sum(one.state is FindingState.BROKEN for one in found.findings)
    warnings = sum(one.state is FindingState.WARNING for one in found.findings)
    err.print(f"{len(found.findings)} findings: {broken} broken, {warnings} warnings.")


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
