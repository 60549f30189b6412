"""Checkpoints: their cards, which one is active, and how to change that."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from shared.contracts.base import NAME_PATTERN, Contract, Stored
from shared.contracts.job_spec import TrainSpec
from shared.contracts.training import Evaluation


class CardFile(Contract):
    name: str
    size: int
    sha256: str


class SmokeAnswer(Contract):
    """A greedy answer recorded when the checkpoint was made; a server asks the same before it serves the checkpoint."""

    question: str
    answer: str
    image_png_base64: str


class CardAdapter(Contract):
    """A LoRA adapter in the checkpoint's folder ``adapter/`` (PEFT's files): ``base`` with it answers as the merged
    weights do.
    """

    base: str = Field(description="version to whose weights it applies")
    rank: int = Field(ge=1, description="the largest rank of its modules")


class AnswerPrompt(Contract):
    """How a task's questions are put to the student: in mining, in training, at the gate, and so in an evaluation."""

    task: str
    prompt: str = Field(description="text of the user turn after the image; {question} stands for the question")
    max_tokens: int = Field(ge=1, description="longest answer, in tokens")


class CheckpointCard(Stored):
    """``mpa_card.json``: the lineage of a checkpoint."""

    version: str = Field(pattern=NAME_PATTERN)
    student: str
    base: str | None = Field(None, description="version it was trained from; None for a base model")
    job_id: str | None = None
    created_at: datetime
    digest: str = Field(description="sha256 over the sorted (name, sha256) of files")
    files: list[CardFile]
    set_digest: str | None = None
    seed: int | None = None
    train: TrainSpec | None = None
    loss: dict[str, float] = Field(
        default_factory=dict, description="loss terms and their weights; last training loss under 'final'"
    )
    evaluation: Evaluation | None = None
    smoke: SmokeAnswer | None = None
    packages: dict[str, str] = Field(
        default_factory=dict, description="versions of torch, transformers, … that made it"
    )
    teacher: str | None = None
    prompts: list[AnswerPrompt] = Field(
        default_factory=list, description="the prompts that it was aligned with, one for each task of the job"
    )
    adapter: CardAdapter | None = Field(None, description="the same change as an adapter, where it was trained as one")


class ActivePointer(Stored):
    """``checkpoints/<student>/active.json``: which version should serve; ``previous`` is what a rollback returns to."""

    student: str
    version: str
    previous: str | None = None
    promoted_by: str
    promoted_at: datetime
    generation: int = Field(ge=0)


class CheckpointInfo(Contract):
    version: str
    url: str
    digest: str
    active: bool
    base: str | None = None
    job_id: str | None = None
    created_at: datetime | None = None
    agreement_before: float | None = None
    agreement_after: float | None = None
    prompts: list[AnswerPrompt] = Field(
        default_factory=list, description="the prompts that it was aligned with; empty for a base model"
    )


class CheckpointList(Contract):
    student: str
    active: str
    previous: str | None = None
    checkpoints: list[CheckpointInfo]


class ActivateRequest(Contract):
    """``PUT /v1/checkpoints/active``. ``by`` says who promotes (a job id, a person)."""

    version: str = Field(pattern=NAME_PATTERN)
    by: str = "api"
    deadline_seconds: float | None = Field(
        None,
        gt=0,
        description="time until the answer, swapped or refused; at most (and by default) the service's swap timeout",
    )


class SwapResult(Contract):
    version: str
    previous: str | None
    changed: bool
    seconds: float
