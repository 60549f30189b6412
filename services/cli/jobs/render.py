"""Shows job statuses and pairs in a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from shared.contracts import (
    Evaluation,
    JobState,
    JobStatus,
    JobWarning,
    LeftOut,
    Outcome,
    PairPage,
    RoundReport,
    StageCount,
    TaskScore,
)
from shared.job_warnings import CAUSES

STATE_COLOURS = {JobState.SUCCEEDED: "green", JobState.FAILED: "red", JobState.CANCELLED: "yellow"}
STAGES = (JobState.QUEUED, JobState.COLLECTING, JobState.TRAINING, JobState.EVALUATING, JobState.PROMOTING)


def job_panel(job: JobStatus) -> RenderableType:
    """All of a job's status: stages, funnel, training, scores, errors."""
    parts: list[RenderableType] = [_headline(job), _stage_line(job)]
    if not job.state.is_final:
        parts.append(_progress(job))
    if job.left_out:
        parts.append(Text(left_out_line(job.left_out), style="yellow"))
    if job.image_notes:
        notes = "; ".join(f"{count} × {note}" for note, count in job.image_notes.items())
        parts.append(Text(f"images read as: {notes}", style="yellow"))
    if job.verdicts:
        parts.append(_funnel(job))
    if job.past_rounds:
        parts.append(rounds_table(job.past_rounds))
    if job.evaluation is not None:
        parts.append(evaluation_table(job.evaluation))
    for label, text, colour in (
        ("waiting for", job.waiting_for, "yellow"),
        ("last error", job.last_error, "red"),
        ("reason", job.reason, "white"),
    ):
        if text:
            parts.append(Text.assemble((f"{label}: ", colour), text))
    parts += [_warning(warning) for warning in job.warnings]
    return Group(*parts)


def left_out_line(left_out: list[LeftOut]) -> str:
    """What the sources hold besides images of the job."""
    reasons = "; ".join(f"{one.files} × {one.reason}, such as {one.example}" for one in left_out)
    return f"left out {sum(one.files for one in left_out)} files: {reasons}"


def causes_line(causes: Mapping[str, int]) -> str:
    """Why pairs are unparsable or refused, in words. Causes of a later release keep their names."""
    words = {str(cause): text for cause, text in CAUSES.items()}
    return "causes: " + "; ".join(f"{count} × {words.get(name, name)}" for name, count in causes.items())


def jobs_table(jobs: list[JobStatus]) -> Table:
    table = Table("job", "name", "state", "images", "disparity", "checkpoint", "created", box=None, pad_edge=False)
    for job in jobs:
        table.add_row(
            job.id,
            job.name,
            _state_text(job),
            f"{job.images.done}/{job.images.total}",
            str(sum(n for v, n in job.verdicts.items() if v.value == "disparity")),
            job.checkpoint or "-",
            job.created_at.strftime("%Y-%m-%d %H:%M"),
        )
    return table


def pairs_table(page: PairPage) -> Table:
    table = Table("image", "task", "verdict", "question", "teacher", "student", "votes", box=None, pad_edge=False)
    for pair in page.pairs:
        share = "" if pair.vote_share is None else f"{pair.vote_share:.2f}"
        image = pair.image.rsplit("/", 1)[-1]
        question = pair.question or pair.reason
        table.add_row(
            image, pair.task, pair.verdict.value, question, pair.teacher_answer or "", pair.student_answer or "", share
        )
    return table


def evaluation_table(evaluation: Evaluation) -> Table:
    """Held-out agreement with the teacher, and benchmark accuracy where there was one."""
    labelled = evaluation.overall.accuracy_after is not None
    columns = ["task", "held-out", "agreement before", "after"]
    table = Table(*columns, *(["accuracy before", "after", "teacher"] if labelled else []), box=None, pad_edge=False)
    for name, score in [*sorted(evaluation.tasks.items()), ("overall", evaluation.overall)]:
        table.add_row(*_score_cells(name, score, labelled))
    return table


def rounds_table(rounds: list[RoundReport]) -> Table:
    """What each round found and made, and why another one followed or not."""
    table = Table(
        "round", "pairs", "disparity", "candidate", "held-out", "gain", "new pairs", "then", box=None, pad_edge=False
    )
    for report in rounds:
        table.add_row(
            str(report.round),
            str(report.pairs),
            _percent(report.disparity_rate),
            report.candidate or "-",
            _change(report.evaluation),
            "-" if report.gain is None else f"{100 * report.gain:+.1f}",
            _change(report.evaluation_new),
            report.reason,
        )
    return table


def _change(evaluation: Evaluation | None) -> str:
    if evaluation is None:
        return "-"
    return f"{_percent(evaluation.overall.agreement_before)} → {_percent(evaluation.overall.agreement_after)}"


def _score_cells(name: str, score: TaskScore, labelled: bool) -> list[str]:
    cells = [name, str(score.questions), _percent(score.agreement_before), _percent(score.agreement_after)]
    if labelled:
        cells += [_percent(score.accuracy_before), _percent(score.accuracy_after), _percent(score.accuracy_teacher)]
    return cells


def _headline(job: JobStatus) -> Text:
    return Text.assemble(
        ("job ", "dim"),
        (job.id, "bold"),
        "  ",
        Text.from_markup(_state_text(job)),
        f"  {job.name}",
        (_round(job), "dim"),
    )


def _warning(warning: JobWarning) -> Text:
    text = Text()
    for label, colour, words in (
        ("warning: ", "yellow", warning.text),
        ("\n  cause: ", "dim", warning.cause),
        ("\n  advice: ", "dim", warning.advice),
    ):
        text.append(label, colour).append(words)
    return text


def _round(job: JobStatus) -> str:
    return f"  round {job.round} of at most {job.rounds}" if job.rounds > 1 else ""


def _state_text(job: JobStatus) -> str:
    colour = STATE_COLOURS.get(job.state, "cyan")
    outcome = f" ({job.outcome.value})" if job.outcome else ""
    if job.outcome in (Outcome.KEPT, Outcome.NO_GAP):
        colour = "yellow"
    return f"[{colour}]{job.state.value}{outcome}[/]"


def _stage_line(job: JobStatus) -> Text:
    line = Text()
    reached = STAGES.index(job.state) if job.state in STAGES else len(STAGES)
    for position, stage in enumerate(STAGES):
        style = "green" if position < reached else ("bold cyan" if position == reached else "dim")
        line.append(("" if position == 0 else " → ") + stage.value, style)
    return line


def _progress(job: JobStatus) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_row("images", _bar(job.images), f"{job.images.done}/{job.images.total}", _speed(job))
    if job.training is not None and job.training.steps:
        steps = StageCount(done=job.training.step, total=job.training.steps)
        loss = "" if job.training.loss is None else f"loss {job.training.loss:.3f}"
        rate = "" if job.training.samples_per_second is None else f"{job.training.samples_per_second:.0f} samples/s"
        terms = ", ".join(f"{name} {value:.3f}" for name, value in sorted(job.training.terms.items()))
        memory = "" if job.training.memory_bytes is None else f"{job.training.memory_bytes / 2**30:.1f} GiB"
        said = "  ".join(part for part in (loss, f"({terms})" if terms else "", rate, memory) if part)
        table.add_row("training", _bar(steps), f"{steps.done}/{steps.total}", said)
    return table


def _bar(count: StageCount) -> ProgressBar:
    return ProgressBar(total=max(count.total, 1), completed=count.done, width=40)


def _speed(job: JobStatus) -> str:
    rate = "" if job.rate_images_per_second is None else f"{job.rate_images_per_second:.1f} images/s"
    eta = "" if job.eta_seconds is None else f"  ETA {int(job.eta_seconds) // 60}:{int(job.eta_seconds) % 60:02d}"
    return rate + eta


def _funnel(job: JobStatus) -> Text:
    line = Text(f"{job.pairs} pairs: ", style="dim")
    line.append("  ".join(f"{verdict.value} {count}" for verdict, count in sorted(job.verdicts.items())))
    if job.causes:
        line.append("\n" + causes_line(job.causes))
    tokens = job.teacher_tokens
    line.append(f"\nteacher tokens: {tokens.spent:,} spent, {tokens.saved:,} saved", "dim")
    return line


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}%"
