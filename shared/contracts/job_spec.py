"""What a team submits, and how it is kept."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field, model_validator

from shared.contracts.base import NAME_PATTERN, Contract, Stored
from shared.contracts.sources import ImageSource


class AnnotatorSpec(Contract):
    """Pseudo Annotator. ``two_step`` asks for a question (sampled), then answers it greedily; ``one_shot`` is the
    paper's way.
    """

    mode: Literal["two_step", "one_shot"] = "two_step"
    questions_per_image: int = Field(3, ge=1, le=32)
    temperature: float = Field(0.8, ge=0, le=2)
    top_p: float = Field(0.9, gt=0, le=1)
    structured: Literal["auto", "off"] = Field(
        "auto", description="auto: hold the teacher to the task's JSON schema, where both have or understand one"
    )


class IdentifierSpec(Contract):
    """Parity Identifier. A pair is kept iff the student is wrong and the teacher's vote share over ``votes`` is >=
    ``threshold``; and, where asked for, the teacher is sure of its answer and stands by it in another question.
    """

    verify: Literal["disagreements", "all"] = "disagreements"
    match: Literal["task", "paper"] = "task"
    votes: int = Field(3, ge=1, le=16)
    threshold: float = Field(0.66, ge=0, le=1)
    vote_temperature: float = Field(1.0, ge=0, le=2)
    min_confidence: float = Field(
        0.0, ge=0, le=1, description="least probability (mean over tokens) of its answer to the teacher; 0: any"
    )
    cross_check: bool = Field(
        False, description="ask the teacher in a second question whether its answer is right; needs the task's `check`"
    )


class DiscrepancySpec(Contract):
    """What is measured of every kept pair beside the answers, and stored in the set."""

    confidence: bool = Field(
        True, description="how much likelier the teacher's answer is to the teacher; needs a teacher with logprobs"
    )
    top_k: int = Field(
        0, ge=0, le=20, description="alternatives stored for each token of the teacher's answer; 0: none"
    )
    reasoning: bool = Field(
        False, description="how much less likely the teacher's one-sentence rationale is to the student"
    )
    attention: bool = Field(
        False, description="where teacher and student look while they answer; both need MPA_ATTENTION_PROBE=true"
    )
    grid: int = Field(8, ge=1, le=32, description="rows and columns of the attention maps")


class LoraSpec(Contract):
    rank: int = Field(16, ge=1, le=512)
    alpha: float = Field(32.0, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: list[str] | None = Field(None, description="None: all linear layers of the language model")


class LossSpec(Contract):
    """The alignment loss. ``preset`` says what each field is that is not given; docs/method.md has the formulas.

    ``paper``: the plain cross-entropy of the paper, on disparity pairs alone. ``replay``: the same with replay pairs.
    ``discrepancy``: replay with the weights and the consistency that any teacher allows.
    """

    preset: Literal["paper", "replay", "discrepancy"] = "replay"
    weigh_by: list[Literal["vote_share", "confidence", "reasoning", "attention"]] | None = Field(
        None, description="discrepancies that a disparity pair's weight grows with"
    )
    consistency: float | None = Field(None, ge=0, description="λ of the output consistency term")
    consistency_by: Literal["auto", "top_k", "candidates"] = Field(
        "auto",
        description="top_k needs one tokenizer for both models and a teacher with logprobs; candidates needs votes",
    )
    rationale: float | None = Field(None, ge=0, description="λ of the cross-entropy of the teacher's rationale")
    attention: float | None = Field(None, ge=0, description="λ of the divergence of the attention maps")


class TrainSpec(Contract):
    """One training run. ``max_steps`` wins over ``epochs``, which counts passes over the disparity pairs."""

    method: Literal["full", "lora"] = "full"
    learning_rate: float = Field(5e-4, gt=0, le=1)
    batch_size: int = Field(32, ge=1, le=4096, description="samples of a batch, whatever processes share it")
    gradient_accumulation: int = Field(1, ge=1, le=1024, description="batches of an optimiser step")
    epochs: float = Field(3.0, gt=0, le=1000)
    max_steps: int | None = Field(None, ge=1)
    warmup_fraction: float = Field(0.05, ge=0, le=1)
    weight_decay: float = Field(0.01, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    replay_fraction: float = Field(0.5, ge=0, lt=1, description="share of each batch that is student_right pairs")
    freeze_vision: bool = False
    precision: Literal["fp32", "bf16"] = "fp32"
    length_bucketing: bool = Field(
        False, description="batches of samples of like length: less padding, but less mixed within a batch"
    )
    gradient_checkpointing: bool = Field(
        False, description="compute activations again in the backward pass: less memory, about a third slower"
    )
    save_every_steps: int = Field(100, ge=1)
    loss: LossSpec = LossSpec()
    lora: LoraSpec | None = None

    @model_validator(mode="before")
    @classmethod
    def _the_paper_has_no_replay(cls, data: Any) -> Any:
        loss = data.get("loss") if isinstance(data, dict) else None
        preset = loss.get("preset") if isinstance(loss, dict) else getattr(loss, "preset", None)
        return {"replay_fraction": 0.0, **data} if preset == "paper" else data

    @model_validator(mode="after")
    def _lora_only_with_method(self) -> TrainSpec:
        if self.lora is not None and self.method != "lora":
            raise ValueError(
                'train.lora is given but train.method is "full": set train.method to "lora" or drop train.lora'
            )
        return self


class RoundsSpec(Contract):
    """Mine, train, and mine again with what was trained, until a bound is met (docs/rounds.md)."""

    max: int = Field(1, ge=1, le=10, description="rounds at most")
    min_disparity: float = Field(
        0.02, ge=0, le=1, description="stop when fewer of a round's checked pairs than this share are disparity pairs"
    )
    min_gain: float = Field(
        0.005, ge=0, le=1, description="stop when held-out agreement grew by less than this in a round"
    )
    steer: bool = Field(
        False, description="later rounds ask more about the tasks, and by example the questions, that the student fails"
    )


class GateSpec(Contract):
    """Promote only if held-out agreement with the teacher grows by ``min_gain`` and no task loses more than
    ``tolerance``.
    """

    held_out_fraction: float = Field(0.1, gt=0, lt=1)
    min_gain: float = Field(0.0, ge=0, le=1)
    tolerance: float = Field(0.02, ge=0, le=1)
    promote: bool = Field(True, description="False: train and evaluate, but never touch the running student")


class JobSpec(Contract):
    """What a team submits to ``POST /v1/jobs``."""

    name: str = Field("", max_length=200)
    images: list[ImageSource] = Field(min_length=1, description="one source or a list of them")
    tasks: list[str] = Field(
        min_length=1, description="names of task profiles, asked of every image whose source names none"
    )
    student: str = Field("student", pattern=NAME_PATTERN)
    annotator: AnnotatorSpec = AnnotatorSpec()
    identifier: IdentifierSpec = IdentifierSpec()
    discrepancies: DiscrepancySpec = DiscrepancySpec()
    train: TrainSpec = TrainSpec()
    rounds: RoundsSpec = RoundsSpec()
    gate: GateSpec = GateSpec()
    benchmark: str | None = Field(
        None, description="labelled JSONL (image, task, question, answers); read by evaluation only"
    )
    shard_size: int = Field(64, ge=1, le=10_000)
    seed: int = Field(0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _one_source_is_a_list(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("images"), dict):
            return {**data, "images": [data["images"]]}
        return data


class StoredSpec(Stored):
    """``jobs/<id>/spec.json``: enough to rebuild a job's record when Redis is lost."""

    job_id: str
    created_at: datetime
    spec: JobSpec
    images: int
    shards: int
    idempotency_key: str | None = None
    idempotency_digest: str | None = None
