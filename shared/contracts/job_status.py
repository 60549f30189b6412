"""What the job API returns about jobs, their rounds and their pairs."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from shared.contracts.base import Contract, Stored
from shared.contracts.enums import JobState, Outcome, Split, Verdict
from shared.contracts.job_spec import JobSpec
from shared.contracts.sources import LeftOut
from shared.contracts.training import Evaluation, TrainingProgress


class TokenCount(Contract):
    """Teacher tokens. ``saved``: estimate of what ``verify: all`` would have spent in addition."""

    prompt: int = 0
    completion: int = 0
    saved: int = 0

    @property
    def spent(self) -> int:
        return self.prompt + self.completion


class StageCount(Contract):
    done: int = 0
    total: int = 0


class Distribution(Contract):
    """Distribution of a discrepancy over the kept pairs that have it. ``tenths`` counts pairs by tenths of [0, 1]."""

    count: int
    mean: float
    tenths: list[int]


WarningCode = Literal[
    "mostly_refused",
    "mostly_unparsable",
    "mostly_duplicate",
    "mostly_inconsistent",
    "mostly_unreadable",
    "few_disparities",
    "few_held_out",
]


class JobWarning(Contract):
    """What makes a job's result worth less than it looks, although nothing failed."""

    code: WarningCode = Field(description="for programs; others may be added")
    text: str = Field(description="what is unusual, with the counts")
    cause: str = Field(description="what it usually comes from")
    advice: str = Field(description="what to change, and where to look")


class TaskShare(Contract):
    """A student's result on a task. ``checked``: questions with verdict student_right or disparity."""

    checked: int = 0
    disparity: int = 0


class RoundReport(Stored):
    """``jobs/<id>/rounds/<round>.json``: a round that is over. It is published before the job moves on, so that the
    artifact store alone shows which round a job is in.

    ``evaluation`` compares the candidate with the version that served when the job was first trained, always on the
    held-out pairs of round 1; ``evaluation_new`` does so on the round's own. ``gain``: growth of the agreement over the
    best earlier candidate.
    """

    round: int = Field(ge=1)
    student: str = Field(description="version that this round asked and trained further")
    pairs: int
    verdicts: dict[Verdict, int]
    disparity_rate: float | None = Field(None, description="share of disparity pairs among the checked ones")
    tasks: dict[str, TaskShare] = Field(default_factory=dict)
    failed_questions: dict[str, list[str]] = Field(
        default_factory=dict, description="by task, questions that the student failed: examples for the next round"
    )
    candidate: str | None = Field(None, description="version that the round made; null if it stopped earlier")
    evaluation: Evaluation | None = None
    evaluation_new: Evaluation | None = None
    gain: float | None = None
    good: bool = Field(False, description="whether the candidate passes the gate and is better than the earlier ones")
    goes_on: bool = False
    reason: str = Field("", description="why another round follows, or why not, in words")


class JobStatus(Contract):
    """``GET /v1/jobs/{id}``. ``images``, ``shards``, rate and ETA are those of the current round; pairs, verdicts and
    tokens are those of all rounds.
    """

    id: str
    name: str
    state: JobState
    outcome: Outcome | None = None
    reason: str | None = Field(None, description="why the outcome or the state is what it is, in words")
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None = None
    student: str
    tasks: list[str]
    images: StageCount
    left_out: list[LeftOut] = Field(
        default_factory=list, description="files of the sources that are not images of the job, by reason"
    )
    image_notes: dict[str, int] = Field(
        default_factory=dict, description="images of which only a part is read, by what that part is"
    )
    shards: StageCount
    pairs: int = 0
    verdicts: dict[Verdict, int] = Field(default_factory=dict)
    rate_images_per_second: float | None = None
    eta_seconds: float | None = None
    discrepancies: dict[str, Distribution] = Field(
        default_factory=dict, description="confidence, reasoning and attention of the kept pairs, if they are measured"
    )
    teacher_tokens: TokenCount = TokenCount()
    training: TrainingProgress | None = None
    evaluation: Evaluation | None = None
    checkpoint: str | None = Field(None, description="version that the job made")
    set_url: str | None = None
    checkpoint_url: str | None = None
    last_error: str | None = None
    waiting_for: str | None = Field(None, description="what the job is waiting for now, e.g. the teacher")
    round: int = Field(1, description="the current round")
    rounds: int = Field(1, description="the most rounds that the job may run")
    past_rounds: list[RoundReport] = Field(default_factory=list, description="rounds that are over, if rounds > 1")
    warnings: list[JobWarning] = Field(
        default_factory=list, description="why the result may be worth little: most pairs unusable, too few of them"
    )
    version: int = Field(0, description="grows with every change, and is the ETag")


class JobList(Contract):
    jobs: list[JobStatus]
    next_cursor: str | None = None


class JobReport(Stored):
    """``jobs/<id>/report.json`` and ``GET /v1/jobs/{id}/report``: the final status, and what reproduces the run."""

    status: JobStatus
    spec: JobSpec
    set_digest: str | None = None
    seconds: dict[str, float] = Field(default_factory=dict, description="wall time by state")


class JobEvent(Contract):
    """One SSE event of ``GET /v1/jobs/{id}/events``."""

    version: int
    status: JobStatus


class Pair(Contract):
    """One row of the disparity set as the API shows it. Answers that the funnel did not reach are null."""

    pair_id: str
    image: str
    task: str
    split: Split
    verdict: Verdict
    reason: str = ""
    question: str | None = None
    teacher_answer: str | None = None
    student_answer: str | None = None
    vote_share: float | None = None
    votes: list[str] = Field(default_factory=list)
    teacher_logprob: float | None = Field(None, description="mean token log-probability of the teacher's answer, nats")
    student_logprob: float | None = Field(
        None, description="mean token log-probability of the student's own answer, nats"
    )
    student_version: str | None = None
    rationale: str | None = None
    confidence_gap: float | None = None
    reasoning_gap: float | None = None
    attention_gap: float | None = None
    image_note: str | None = Field(
        None, description="what was left out of the file's picture, such as the further pages of a TIFF"
    )


class PairPage(Contract):
    pairs: list[Pair]
    next_cursor: str | None = None


class TaskInfo(Contract):
    """A task profile that jobs may name."""

    name: str
    metric: str
    answer_prompt: str = Field("", description="how its questions are put; {question} stands for the question")
    max_answer_tokens: int = Field(0, description="longest answer, in tokens; 0 from an older release")


class TaskList(Contract):
    tasks: list[TaskInfo]
