"""How a training goes, and what its evaluation found."""

from __future__ import annotations

from pydantic import Field

from shared.contracts.base import Contract
from shared.contracts.enums import JobState


class TrainingProgress(Contract):
    step: int = 0
    steps: int = 0
    loss: float | None = None
    samples_per_second: float | None = None
    eta_seconds: float | None = None
    memory_bytes: int | None = Field(
        None, description="most memory that a process of the training took so far: of its GPU, else of the machine"
    )
    gradient_norm: float | None = Field(None, description="before clipping")
    terms: dict[str, float] = Field(default_factory=dict, description="loss terms by name, before their weights")


class TaskScore(Contract):
    """Scores of one task on held-out images, 0-1. ``accuracy_*`` only where a labelled benchmark was given."""

    questions: int
    agreement_before: float | None = None
    agreement_after: float | None = None
    benchmark_questions: int = 0
    accuracy_before: float | None = None
    accuracy_after: float | None = None
    accuracy_teacher: float | None = None


class Evaluation(Contract):
    """``overall`` and per-task scores of a candidate checkpoint against the one that served when the job began."""

    overall: TaskScore
    tasks: dict[str, TaskScore]


class TrainingInfo(Contract):
    """``GET /v1/trainings/{job_id}`` of the trainer. ``losses``: (step, loss), thinned out evenly."""

    job_id: str
    state: JobState
    progress: TrainingProgress | None = None
    evaluation: Evaluation | None = None
    checkpoint: str | None = None
    last_error: str | None = None
    waiting_for: str | None = None
    losses: list[tuple[int, float]] = Field(default_factory=list)


class TrainingList(Contract):
    trainings: list[TrainingInfo]
