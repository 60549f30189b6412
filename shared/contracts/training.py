"""How a training goes, and what its evaluation found."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from shared.contracts.base import Contract
from shared.contracts.enums import JobState


def _known(terms: Any) -> Any:
    """Without terms that were not finite numbers."""
    return {name: value for name, value in terms.items() if value is not None} if isinstance(terms, dict) else terms


class TrainingProgress(Contract):
    """Where a training is, as of its last step."""

    step: int = Field(0, description="optimiser steps done")
    steps: int = Field(0, description="optimiser steps to do in all")
    loss: float | None = Field(None, description="mean loss of the last step's samples, in nats")
    samples_per_second: float | None = Field(None, description="samples trained on a second, over the last steps")
    eta_seconds: float | None = Field(None, description="seconds until the last step, at this speed")
    memory_bytes: int | None = Field(
        None, description="peak memory of any process of the training so far, in bytes: of its GPU, else of the machine"
    )
    gradient_norm: float | None = Field(None, description="L2 norm of the last step's gradient before clipping")
    terms: Annotated[dict[str, float], BeforeValidator(_known)] = Field(
        default_factory=dict, description="loss terms by name, before their weights"
    )


class TaskScore(Contract):
    """Scores of one task, 0-1: agreement with the teacher on held-out images, and accuracy on a labelled benchmark.

    ``before`` is the version that served when the job began, ``after`` the candidate. Null where nothing was measured.
    """

    questions: int = Field(description="held-out questions")
    agreement_before: float | None = Field(
        None, description="share that the version before answers as the teacher does"
    )
    agreement_after: float | None = Field(None, description="share that the candidate answers as the teacher does")
    gain_interval: tuple[float, float] | None = Field(
        None,
        description="exact 95 % interval of the gain in agreement, from the questions whose agreement changed; null in "
        "the scores of earlier releases",
    )
    benchmark_questions: int = Field(0, description="questions of the benchmark")
    accuracy_before: float | None = Field(None, description="score of the version before, by the task's metric")
    accuracy_after: float | None = Field(None, description="score of the candidate, by the task's metric")
    accuracy_teacher: float | None = Field(None, description="score of the teacher, by the task's metric")


class Evaluation(Contract):
    """Scores of a candidate against the version that served when the job began."""

    overall: TaskScore = Field(description="over all questions")
    tasks: dict[str, TaskScore] = Field(description="by name of the task")
    unfinished_before: int = Field(
        0, description="questions that count as wrong because the version before was still thinking at its token limit"
    )
    unfinished_after: int = Field(0, description="the same for the candidate")


class TrainingInfo(Contract):
    """``GET /v1/trainings/{job_id}`` of the trainer."""

    job_id: str = Field(description="the job that is trained")
    state: JobState = Field(description="state of the job")
    progress: TrainingProgress | None = Field(None, description="of the current round, or the last one")
    evaluation: Evaluation | None = Field(None, description="scores of the candidate, once they are measured")
    checkpoint: str | None = Field(None, description="version of the candidate, once it is published")
    last_error: str | None = Field(None, description="why the last attempt failed")
    waiting_for: str | None = Field(None, description="what keeps the training from going on")
    losses: list[tuple[int, float]] = Field(
        default_factory=list, description="(step, loss), at most 500 of them, evenly spread"
    )


class TrainingList(Contract):
    """``GET /v1/trainings`` of the trainer."""

    trainings: list[TrainingInfo] = Field(description="newest first, without their losses")
