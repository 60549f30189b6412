"""Shows checkpoints, the rollout and the canary in a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from shared.contracts import (
    CanaryReport,
    CanaryState,
    CheckpointList,
    ReplicaInfo,
    RolloutView,
    SwapResult,
    VersionStats,
)

STATE_COLOURS = {
    CanaryState.RUNNING: "cyan",
    CanaryState.PROMOTING: "cyan",
    CanaryState.PROMOTED: "green",
    CanaryState.ABORTED: "red",
}


def checkpoints_table(found: CheckpointList) -> Table:
    table = Table("", "version", "base", "job", "agreement", "created", "digest", box=None, pad_edge=False)
    for item in found.checkpoints:
        mark = "[green]●[/]" if item.active else ("[dim]○[/]" if item.version == found.previous else " ")
        change = (item.agreement_before, item.agreement_after)
        gain = "-" if change[1] is None else " → ".join("-" if value is None else f"{value:.1%}" for value in change)
        created = item.created_at.strftime("%Y-%m-%d %H:%M") if item.created_at else "-"
        table.add_row(mark, item.version, item.base or "-", item.job_id or "-", gain, created, item.digest[:12])
    return table


def swap_line(result: SwapResult) -> str:
    """What a swap changed."""
    if not result.changed:
        return f"{result.version} is already active"
    return f"{result.previous} → {result.version} in {result.seconds:.2f} s"


def rollout_panel(view: RolloutView) -> RenderableType:
    """The active version, every replica, and the canary."""
    colour, word = ("green", "converged") if view.converged else ("yellow", "converging")
    parts: list[RenderableType] = [
        Text.assemble(
            (view.student, "bold"), "  active ", (view.active.version, "bold"), f"  by {view.active.promoted_by}  ",
            (word, colour),
        ),
        _replica_table(view.replicas),
    ]  # fmt: skip
    if not view.complete:
        parts.append(Text("Redis does not answer the student: other replicas are not shown.", "yellow"))
    parts += [Text(f"{r.id}: {r.problem}", "red") for r in view.replicas if r.problem]
    if view.canary is not None:
        parts += [Text(), canary_panel(view.canary)]
    return Group(*parts)


def canary_panel(report: CanaryReport) -> RenderableType:
    """A canary's state, its counts by version, and what its rule says."""
    canary = report.canary
    head = Text.assemble(
        "canary ", (canary.version, "bold"), f" alongside {canary.baseline}  share {canary.share:.1%}  ",
        (canary.state.value, STATE_COLOURS[canary.state]), f"  {canary.reason} (by {canary.changed_by})",
    )  # fmt: skip
    parts: list[RenderableType] = [head, _stats_table([report.active, report.candidate])]
    if report.agreement is not None:
        parts.append(Text(f"agreement {report.agreement:.1%} of {report.compared} compared answers"))
    if report.verdict:
        parts.append(Text(f"rule: {report.verdict}"))
    return Group(*parts)


def _replica_table(replicas: list[ReplicaInfo]) -> Table:
    table = Table("replica", "address", "version", "canary", "queued", "seen", box=None, pad_edge=False)
    for replica in replicas:
        seen = replica.seen_at.strftime("%H:%M:%S")
        table.add_row(replica.id, replica.address, replica.version, replica.candidate or "-", str(replica.queued), seen)
    return table


def _stats_table(versions: list[VersionStats]) -> Table:
    table = Table("version", "answers", "errors", "mean", "p50", "p95", "p99", box=None, pad_edge=False)
    for stats in versions:
        times = (stats.latency_mean, stats.latency_p50, stats.latency_p95, stats.latency_p99)
        table.add_row(stats.version, str(stats.requests), str(stats.errors), *map(_milliseconds, times))
    return table


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.0f} ms"
