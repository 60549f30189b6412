"""What `mpa status` shows of a job with several rounds."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.console import Console

from services.cli.jobs.render import causes_line, job_panel, left_out_line
from shared.contracts import Evaluation, JobState, JobStatus, LeftOut, RoundReport, StageCount, TaskScore

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def shown(past: list[RoundReport], rounds: int) -> str:
    job = JobStatus(
        id="j1",
        name="signs",
        state=JobState.COLLECTING,
        created_at=NOW,
        updated_at=NOW,
        student="student",
        tasks=["chart"],
        images=StageCount(done=3, total=40),
        shards=StageCount(done=0, total=5),
        round=len(past) + 1,
        rounds=rounds,
        past_rounds=past,
    )
    console = Console(width=200)
    with console.capture() as captured:
        console.print(job_panel(job))
    return captured.get()


def test_each_round_is_a_line_with_its_rate_scores_and_reason() -> None:
    scores = Evaluation(overall=TaskScore(questions=9, agreement_before=0.5, agreement_after=0.625), tasks={})
    first = RoundReport(
        round=1,
        student="base",
        pairs=80,
        verdicts={},
        disparity_rate=0.25,
        candidate="job-j1",
        evaluation=scores,
        gain=0.125,
        goes_on=True,
        reason="round 2 follows",
    )
    text = shown([first], 3)
    assert "round 2 of at most 3" in text
    (line,) = [line for line in text.splitlines() if "job-j1" in line]
    assert " ".join(line.split()) == "1 80 25.0% job-j1 50.0% → 62.5% +12.5 - round 2 follows"


def test_a_job_of_one_round_shows_none_of_it() -> None:
    assert "round" not in shown([], 1)


def test_the_causes_of_lost_pairs_are_one_line() -> None:
    line = causes_line({"answer_cut_off": 55, "student_thinking": 2, "of a later release": 1})
    assert line == (
        "causes: 55 × the teacher's answer was cut off by its token limit; "
        "2 × the student was still thinking when its tokens were used up; 1 × of a later release"
    )


def test_what_was_left_out_is_one_line() -> None:
    left_out = [
        LeftOut(reason="hidden file", files=2, example=".a.png"),
        LeftOut(reason="archive", files=1, example="b"),
    ]
    assert left_out_line(left_out) == "left out 3 files: 2 × hidden file, such as .a.png; 1 × archive, such as b"
