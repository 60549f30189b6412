"""Shows scores and comparisons in a terminal, and how far a run has come."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from services.cli.session import err

METRICS = {"vqa": "VQA accuracy", "anls": "ANLS", "relaxed": "relaxed accuracy", "exact": "exact match"}
LINE_EVERY_SECONDS = 10.0
CERTAIN = 0.05
MOST_ROWS = 20


def scores_table(scores: dict[str, Any]) -> RenderableType:
    """The scores of a run in percent, over all questions and by type, with the prompts they were asked with."""
    metric = METRICS[scores["metric"]]
    table = Table(box=None, pad_edge=False, title_justify="left", title=f"{scores['benchmark']}: {_of(scores)}")
    table.add_column("")
    for column in ("questions", metric, "95 % interval", "containment"):
        table.add_column(column, justify="right")
    rows = {"all questions": scores["overall"]}
    for kind in ("tasks", "types"):
        rows |= scores[kind] if 1 < len(scores[kind]) <= MOST_ROWS else {}
    for name, row in rows.items():
        low, high = (f"{100 * bound:.1f}" for bound in row["interval95"])
        shares = f"{100 * row['official']:.1f}", f"{low} to {high}", f"{100 * row['containment']:.1f}"
        table.add_row(name, str(row["questions"]), *shares, style="bold" if name == "all questions" else "")
    if len(scores["types"]) > MOST_ROWS:
        table.caption = f"{len(scores['types'])} types: --json shows each"
        table.caption_justify = "left"
    return Group(table, *(Text(line, style="dim") for line in _prompt_lines(scores)), *_warnings(scores))


def comparison_table(found: dict[str, Any]) -> RenderableType:
    """Two runs, their difference in points, and whether it may be chance."""
    table = Table(box=None, pad_edge=False)
    table.add_column("run")
    table.add_column("asked")
    table.add_column("score", justify="right")
    for name in ("first", "second"):
        run = found["runs"][name]
        table.add_row(name, _of(run), f"{100 * run['official']:.1f}")
    difference, p = 100 * found["difference"], found["p_value"]
    sure = f"p = {p:.4f}: {'unlikely to be' if p < CERTAIN else 'may be'} chance"
    verdict = f"second - first = {difference:+.1f} points over {found['questions']} questions, {sure}"
    notes = [Text(f"Note: {note}", style="yellow") for note in found["notes"]]
    return Group(table, Text(verdict, style="bold"), *notes)


@contextmanager
def shown_progress(total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr; without a terminal, a line every LINE_EVERY_SECONDS."""
    if not err.is_terminal:
        yield _lines(total)
        return
    columns = (TextColumn("questions"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("questions", total=total)
        yield lambda done: progress.update(task, completed=done)


def _lines(total: int) -> Callable[[int], None]:
    said = time.monotonic()

    def advance(done: int) -> None:
        nonlocal said
        if time.monotonic() - said >= LINE_EVERY_SECONDS:
            said = time.monotonic()
            sys.stderr.write(f"{done} of {total} questions are answered\n")

    return advance


def _of(scores: dict[str, Any]) -> str:
    version = f", checkpoint {scores['checkpoint']}" if scores.get("checkpoint") else ""
    return f"{scores['model']} at {scores['of']}{version}"


def _prompt_lines(scores: dict[str, Any]) -> Iterator[str]:
    alike: dict[tuple[str, int, str], list[str]] = {}
    for task, one in scores["prompts"].items():
        alike.setdefault((one["prompt"], one["max_tokens"], one["source"]), []).append(task)
    for (prompt, tokens, source), tasks in alike.items():
        yield f"{', '.join(tasks)}: asked with {prompt!r} (at most {tokens} tokens; from {source})"


def _warnings(scores: dict[str, Any]) -> Iterator[Text]:
    count, cut, empty = scores["overall"]["questions"], scores["cut_off"], scores["empty"]
    if cut:
        yield Text(
            f"Warning: the token limit cut off {cut} of {count} answers. Raise --max-tokens, above all for a model "
            "that thinks before it answers.",
            style="yellow",
        )
    if empty:
        yield Text(f"Warning: {empty} of {count} answers are empty.", style="yellow")
