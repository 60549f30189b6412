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

    prompt: int = Field(0, description="tokens of prompts")
    completion: int = Field(0, description="tokens of answers")
    saved: int = Field(0, description="estimate of what verify: all would have spent in addition")

    @property
    def spent(self) -> int:
        return self.prompt + self.completion


class StageCount(Contract):
    done: int = Field(0, description="finished so far")
    total: int = Field(0, description="how many there are in all")


class Distribution(Contract):
    """Distribution of a discrepancy over the kept pairs that have it. ``tenths`` counts pairs by tenths of [0, 1]."""

    count: int = Field(description="pairs that have the value")
    mean: float = Field(description="mean over these pairs")
    tenths: list[int] = Field(description="number of pairs in each tenth of [0, 1]")


WarningCode = Literal[
    "mostly_refused",
    "mostly_unparsable",
    "mostly_duplicate",
    "mostly_inconsistent",
    "mostly_unreadable",
    "token_limit",
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

    checked: int = Field(0, description="questions with the verdict student_right or disparity")
    disparity: int = Field(0, description="questions with the verdict disparity")


class RoundReport(Stored):
    """``jobs/<id>/rounds/<round>.json``: a round that is over. It is published before the job moves on, so that the
    artifact store alone shows which round a job is in.

    ``evaluation`` compares the candidate with the version that served when the job was first trained, always on the
    held-out pairs of round 1; ``evaluation_new`` does so on the round's own. ``gain``: growth of the agreement over the
    best earlier candidate.
    """

    round: int = Field(ge=1, description="number of the round, from 1")
    student: str = Field(description="version that this round asked and trained further")
    pairs: int = Field(description="pairs of this round")
    verdicts: dict[Verdict, int] = Field(description="number of pairs by verdict")
    disparity_rate: float | None = Field(None, description="share of disparity pairs among the checked ones")
    tasks: dict[str, TaskShare] = Field(default_factory=dict, description="results by name of the task")
    failed_questions: dict[str, list[str]] = Field(
        default_factory=dict, description="by task, questions that the student failed: examples for the next round"
    )
    candidate: str | None = Field(None, description="version that the round made; null if it stopped earlier")
    evaluation: Evaluation | None = Field(None, description="scores on the held-out pairs of round 1")
    evaluation_new: Evaluation | None = Field(None, description="scores on the round's own held-out pairs")
    gain: float | None = Field(None, description="growth of the agreement over the best earlier candidate")
    good: bool = Field(False, description="whether the candidate passes the gate and is better than the earlier ones")
    goes_on: bool = Field(False, description="whether another round follows")
    reason: str = Field("", description="why another round follows, or why not, in words")


class JobStatus(Contract):
    """``GET /v1/jobs/{id}``. ``images``, ``shards``, rate and ETA are those of the current round; pairs, verdicts and
    tokens are those of all rounds.
    """

    id: str = Field(description="id of the job")
    name: str = Field(description="name that the submitter gave it")
    state: JobState = Field(description="where the job is")
    outcome: Outcome | None = Field(None, description="how a succeeded job ended")
    reason: str | None = Field(None, description="why the outcome or the state is what it is, in words")
    created_at: datetime = Field(description="when the job was accepted")
    updated_at: datetime = Field(description="when it last changed")
    finished_at: datetime | None = Field(None, description="when it became final")
    student: str = Field(description="name of the student")
    tasks: list[str] = Field(description="names of the task profiles")
    images: StageCount = Field(description="images of the current round that are done")
    left_out: list[LeftOut] = Field(
        default_factory=list, description="files of the sources that are not images of the job, by reason"
    )
    image_notes: dict[str, int] = Field(
        default_factory=dict, description="images that are not read whole and exactly, by what is read of them"
    )
    shards: StageCount = Field(description="shards of the current round that are done")
    pairs: int = Field(0, description="pairs of all rounds")
    verdicts: dict[Verdict, int] = Field(
        default_factory=dict, description="number of pairs by verdict, over all rounds"
    )
    causes: dict[str, int] = Field(
        default_factory=dict,
        description="why pairs are unparsable or refused, or what is special about the student's "
        "answer: number of pairs by cause, over all rounds, most frequent first",
    )
    rate_images_per_second: float | None = Field(None, description="images done a second, lately")
    eta_seconds: float | None = Field(None, description="seconds until the images of this round are done, at this rate")
    discrepancies: dict[str, Distribution] = Field(
        default_factory=dict, description="confidence, reasoning and attention of the kept pairs, if they are measured"
    )
    teacher_tokens: TokenCount = Field(TokenCount(), description="tokens that the teacher spent, over all rounds")
    training: TrainingProgress | None = Field(None, description="progress of the training")
    evaluation: Evaluation | None = Field(None, description="scores of the candidate against the version before")
    checkpoint: str | None = Field(None, description="version that the job made")
    set_url: str | None = Field(None, description="where the disparity set is")
    checkpoint_url: str | None = Field(None, description="where the checkpoint is")
    last_error: str | None = Field(None, description="the last error, in words")
    waiting_for: str | None = Field(None, description="what the job is waiting for now, e.g. the teacher")
    round: int = Field(1, description="the current round")
    rounds: int = Field(1, description="the most rounds that the job may run")
    past_rounds: list[RoundReport] = Field(default_factory=list, description="rounds that are over, if rounds > 1")
    warnings: list[JobWarning] = Field(
        default_factory=list, description="why the result may be worth little: most pairs unusable, too few of them"
    )
    version: int = Field(0, description="grows with every change, and is the ETag")


class JobList(Contract):
    jobs: list[JobStatus] = Field(description="jobs of this page, newest first")
    next_cursor: str | None = Field(None, description="cursor of the next page; null on the last one")


class JobReport(Stored):
    """``jobs/<id>/report.json`` and ``GET /v1/jobs/{id}/report``: the final status, and what reproduces the run."""

    status: JobStatus = Field(description="status of the job")
    spec: JobSpec = Field(description="what was submitted")
    set_digest: str | None = Field(None, description="sha256 of the disparity set")
    seconds: dict[str, float] = Field(default_factory=dict, description="wall time by state")
    run: int = Field(0, description="how often the job had been retried")


class JobEvent(Contract):
    """One SSE event of ``GET /v1/jobs/{id}/events``."""

    version: int = Field(description="version of the status")
    status: JobStatus = Field(description="the status")


class Pair(Contract):
    """One row of the disparity set as the API shows it. Answers that the funnel did not reach are null."""

    pair_id: str = Field(description="id of the pair in its job")
    image: str = Field(description="path or URL of the image")
    task: str = Field(description="name of the task")
    split: Split = Field(description="whether the image is trained on or held out")
    verdict: Verdict = Field(description="how the pair ended")
    reason: str = Field("", description="why, in words")
    cause: str | None = Field(None, description="what the reason says, as a word for programs; null for most pairs")
    question: str | None = Field(None, description="the teacher's question")
    teacher_answer: str | None = Field(None, description="the teacher's answer")
    student_answer: str | None = Field(None, description="the student's answer")
    vote_share: float | None = Field(None, description="share of the teacher's votes that match its answer, 0-1")
    votes: list[str] = Field(default_factory=list, description="the teacher's further answers")
    teacher_logprob: float | None = Field(None, description="mean token log-probability of the teacher's answer, nats")
    student_logprob: float | None = Field(
        None, description="mean token log-probability of the student's own answer, nats"
    )
    student_version: str | None = Field(None, description="checkpoint that gave the student's answer")
    rationale: str | None = Field(None, description="the teacher's reason for its answer, in a sentence")
    confidence_gap: float | None = Field(None, description="discrepancy of confidence, 0-1")
    reasoning_gap: float | None = Field(None, description="discrepancy of reasoning, 0-1")
    attention_gap: float | None = Field(None, description="discrepancy of attention, 0-1")
    image_note: str | None = Field(
        None, description="what is read of a file that is not read whole and exactly, such as the first page of a TIFF"
    )


class PairPage(Contract):
    pairs: list[Pair] = Field(description="pairs of this page, in manifest order")
    next_cursor: str | None = Field(None, description="cursor of the next page; null on the last one")


class TaskInfo(Contract):
    """A task profile that jobs may name."""

    name: str = Field(description="name of the task profile")
    metric: str = Field(description="how a benchmark of this task is scored")
    answer_prompt: str = Field("", description="how its questions are put; {question} stands for the question")
    max_answer_tokens: int = Field(0, description="longest answer, in tokens; 0 from an older release")


class TaskList(Contract):
    tasks: list[TaskInfo] = Field(description="task profiles, by name")
