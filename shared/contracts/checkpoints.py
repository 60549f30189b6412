"""Checkpoints: their cards, which one is active, and how to change that."""

from __future__ import annotations

from datetime import datetime

from pydantic import ConfigDict, Field

from shared.contracts.base import NAME_PATTERN, Contract, Stored
from shared.contracts.job_spec import TrainSpec
from shared.contracts.training import Evaluation


class CardFile(Contract):
    name: str = Field(description="path inside the checkpoint's folder")
    size: int = Field(description="size in bytes")
    sha256: str = Field(description="sha256 of the content, in hexadecimal")


class SmokeAnswer(Contract):
    """A greedy answer recorded when the checkpoint was made; a server asks the same before it serves the checkpoint."""

    question: str = Field(description="the question about the image")
    answer: str = Field(description="the greedy answer")
    image_png_base64: str = Field(description="the image, as base64 of a PNG file")


class CardAdapter(Contract):
    """A LoRA adapter in the checkpoint's folder ``adapter/`` (PEFT's files): ``base`` with it answers as the merged
    weights do.
    """

    base: str = Field(description="version to whose weights it applies")
    rank: int = Field(ge=1, description="the largest rank of its modules")


class AnswerPrompt(Contract):
    """How a task's questions are put to the student: in mining, in training, at the gate, and so in an evaluation."""

    task: str = Field(description="name of the task")
    prompt: str = Field(description="text of the user turn after the image; {question} stands for the question")
    max_tokens: int = Field(ge=1, description="longest answer, in tokens")


class CheckpointCard(Stored):
    """``mpa_card.json``: the lineage of a checkpoint."""

    version: str = Field(pattern=NAME_PATTERN, description="version of the checkpoint")
    student: str = Field(description="name of the student")
    base: str | None = Field(None, description="version it was trained from; None for a base model")
    job_id: str | None = Field(None, description="job that made it")
    created_at: datetime = Field(description="when it was made")
    digest: str = Field(description="sha256 over the sorted (name, sha256) of files")
    files: list[CardFile] = Field(description="all files of the checkpoint")
    set_digest: str | None = Field(None, description="sha256 of the disparity set it was trained on")
    seed: int | None = Field(None, description="seed of the training")
    train: TrainSpec | None = Field(None, description="how it was trained")
    loss: dict[str, float] = Field(
        default_factory=dict, description="loss terms and their weights; last training loss under 'final'"
    )
    evaluation: Evaluation | None = Field(None, description="scores against the version before")
    smoke: SmokeAnswer | None = Field(None, description="a question with the answer that it must give")
    packages: dict[str, str] = Field(
        default_factory=dict, description="versions of torch, transformers, … that made it"
    )
    teacher: str | None = Field(None, description="model that it was aligned with")
    prompts: list[AnswerPrompt] = Field(
        default_factory=list, description="the prompts that it was aligned with, one for each task of the job"
    )
    adapter: CardAdapter | None = Field(None, description="the same change as an adapter, where it was trained as one")


class ActivePointer(Stored):
    """``checkpoints/<student>/active.json``: which version should serve; ``previous`` is what a rollback returns to."""

    student: str = Field(description="name of the student")
    version: str = Field(description="version that should serve")
    previous: str | None = Field(None, description="version that a rollback returns to")
    promoted_by: str = Field(description="who made it active")
    promoted_at: datetime = Field(description="when it became active")
    generation: int = Field(ge=0, description="grows with every change")


class CheckpointInfo(Contract):
    version: str = Field(description="version of the checkpoint")
    url: str = Field(description="folder of the checkpoint in the artifact store")
    digest: str = Field(description="sha256 over its files")
    active: bool = Field(description="whether this version should serve")
    base: str | None = Field(None, description="version that it was trained from")
    job_id: str | None = Field(None, description="job that made it")
    created_at: datetime | None = Field(None, description="when it was made")
    agreement_before: float | None = Field(
        None, description="held-out agreement of the version before with the teacher, 0-1"
    )
    agreement_after: float | None = Field(None, description="held-out agreement of this version with the teacher, 0-1")
    prompts: list[AnswerPrompt] = Field(
        default_factory=list, description="the prompts that it was aligned with; empty for a base model"
    )


class CheckpointList(Contract):
    student: str = Field(description="name of the student")
    active: str = Field(description="version that should serve")
    previous: str | None = Field(None, description="version that a rollback returns to")
    checkpoints: list[CheckpointInfo] = Field(description="all versions, oldest first")


class ActivateRequest(Contract):
    """``PUT /v1/checkpoints/active``. ``by`` says who promotes (a job id, a person)."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"version": "job-20261128-101500-7f3a2c1e", "by": "eve"}]}
    )

    version: str = Field(pattern=NAME_PATTERN, description="version to serve")
    by: str = Field("api", description="who asks for it: a job id or a person")
    deadline_seconds: float | None = Field(
        None,
        gt=0,
        description="time until the answer, swapped or refused; at most (and by default) the service's swap timeout",
    )


class SwapResult(Contract):
    version: str = Field(description="version that serves now")
    previous: str | None = Field(description="version that served before")
    changed: bool = Field(description="whether there was a swap")
    seconds: float = Field(description="duration of the swap")
