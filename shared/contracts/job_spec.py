"""What a team submits, and how it is kept."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from shared.contracts.base import NAME_PATTERN, Contract, Stored
from shared.contracts.sources import ImageSource, LeftOut


class AnnotatorSpec(Contract):
    """How the Pseudo Annotator makes questions and answers."""

    mode: Literal["two_step", "one_shot"] = Field(
        "two_step",
        description="two_step: the teacher makes up a question (sampled), then answers it in a second call (greedily); "
        "one_shot: both in one sampled call, as in the paper",
    )
    questions_per_image: int = Field(3, ge=1, le=32, description="questions about each image, for each of its tasks")
    temperature: float = Field(0.8, ge=0, le=2, description="sampling temperature of questions; 0: greedy")
    top_p: float = Field(0.9, gt=0, le=1, description="nucleus sampling of questions: share of probability to keep")
    structured: Literal["auto", "off"] = Field(
        "auto", description="auto: hold the teacher to the task's JSON schema if the task has one and the teacher can"
    )


class IdentifierSpec(Contract):
    """How the Parity Identifier decides. A pair is kept iff the student is wrong and the teacher's vote share over
    ``votes`` is at least ``threshold``; and, if the job asks for it, the teacher is sure of its answer and confirms it.
    """

    verify: Literal["disagreements", "all"] = Field(
        "disagreements",
        description="disagreements: the teacher votes only where the student is wrong; all: on every pair, as in the "
        "paper, which costs more calls",
    )
    match: Literal["task", "paper"] = Field(
        "task",
        description="how two answers are compared, when mining and at the gate. task: they agree whatever their "
        "spelling, by the task's rule (docs/agreement.md); paper: lower case, letters and digits only, and the "
        "teacher's answer is contained in the student's",
    )
    votes: int = Field(3, ge=1, le=16, description="answers that the teacher samples to check its own")
    threshold: float = Field(0.66, ge=0, le=1, description="least share of votes that must match the teacher's answer")
    vote_temperature: float = Field(1.0, ge=0, le=2, description="sampling temperature of the votes")
    min_confidence: float = Field(
        0.0,
        ge=0,
        le=1,
        description="least probability (mean over tokens) that the teacher gives its answer; 0: any. Needs logprobs",
    )
    cross_check: bool = Field(
        False, description="ask the teacher in a second question whether its answer is right; needs the task's `check`"
    )
    refusal_check: bool = Field(
        True,
        exclude_if=bool,  # specs of earlier releases have the same digest as before
        description="ask the teacher, about each pair that would be kept, whether its answer only says that there is "
        "none; for tasks with the prompt `answerable`",
    )


class DiscrepancySpec(Contract):
    """What is measured of every kept pair besides the answers, and stored in the set. Each discrepancy is in [0, 1]."""

    confidence: bool = Field(
        True,
        description="how much likelier the teacher's answer is to the teacher than to the student; needs a teacher "
        "with logprobs",
    )
    top_k: int = Field(
        0, ge=0, le=20, description="alternative tokens stored for each token of the teacher's answer; 0: none"
    )
    reasoning: bool = Field(
        False, description="how much less likely the teacher's one-sentence rationale is to the student"
    )
    attention: bool = Field(
        False, description="where teacher and student look while they answer; both need MPA_ATTENTION_PROBE=true"
    )
    grid: int = Field(8, ge=1, le=32, description="rows and columns of the attention maps")


class LoraSpec(Contract):
    """The low-rank adapters that ``method: lora`` trains and then merges into the weights (arXiv 2106.09685)."""

    rank: int = Field(16, ge=1, le=512, description="inner dimension of each adapter")
    alpha: float = Field(32.0, gt=0, description="an adapter's output is scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of an adapter's inputs that are dropped in training")
    target_modules: list[str] | None = Field(
        None, description="name endings of the layers that get an adapter; null: all linear ones of the language model"
    )


Discrepancy = Literal["vote_share", "confidence", "reasoning", "attention"]
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "replay": {},
    "discrepancy": {"weigh_by": ["vote_share"], "consistency": 0.3},
}
"""The fields of LossSpec that differ from their defaults, by preset."""
PRESET_FIELDS = ("weigh_by", "consistency", "rationale", "attention")


class LossSpec(Contract):
    """The alignment loss; docs/method.md has the formulas. A λ is the weight of a term, and 0 switches it off.

    The preset fills in what is not given, so a LossSpec is complete wherever it is read.
    """

    preset: Literal["paper", "replay", "discrepancy"] = Field(
        "replay",
        description="values of the fields that are not given. paper: plain cross-entropy, on disparity pairs alone; "
        "replay: the same with replay pairs; discrepancy: replay with the weights and the consistency that any teacher "
        "allows",
    )
    weigh_by: list[Discrepancy] = Field(
        [], description="discrepancies that a disparity pair's weight grows with; default: the preset's value"
    )
    consistency: float = Field(0.0, ge=0, description="λ of the output consistency term; default: the preset's value")
    consistency_by: Literal["auto", "top_k", "candidates"] = Field(
        "auto",
        description="top_k needs one tokenizer for both models and a teacher with logprobs; candidates needs votes; "
        "auto: top_k for the pairs that have it, else candidates",
    )
    rationale: float = Field(
        0.0, ge=0, description="λ of the cross-entropy of the teacher's rationale; default: the preset's value"
    )
    attention: float = Field(
        0.0, ge=0, description="λ of the divergence of the attention maps; default: the preset's value"
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_the_preset(cls, data: Any) -> Any:
        """A null means the preset's value: earlier releases stored it for every field that was not given."""
        if not isinstance(data, dict):
            return data
        given = {name: value for name, value in data.items() if value is not None or name not in PRESET_FIELDS}
        return PRESETS.get(str(given.get("preset")), {}) | given

    @property
    def has_terms(self) -> bool:
        """Whether it asks for more than the cross-entropy of the teacher's answers."""
        return bool(self.weigh_by) or self.consistency > 0 or self.rationale > 0 or self.attention > 0


class TrainSpec(Contract):
    """One training run. ``max_steps`` wins over ``epochs``, which counts passes over the disparity pairs."""

    method: Literal["full", "lora"] = Field("full", description="full: train all weights; lora: adapters, then merged")
    learning_rate: float = Field(5e-4, gt=0, le=1, description="AdamW's at its peak; it falls to 0 along a cosine")
    batch_size: int = Field(32, ge=1, le=4096, description="samples in a batch, however many processes share it")
    gradient_accumulation: int = Field(1, ge=1, le=1024, description="batches in an optimiser step")
    epochs: float = Field(3.0, gt=0, le=1000, description="passes over the disparity pairs")
    max_steps: int | None = Field(None, ge=1, description="optimiser steps; null: as many as epochs needs")
    warmup_fraction: float = Field(
        0.05,
        ge=0,
        le=1,
        description="share of the steps in which the rate rises to its peak; no step has rate 0, and one the peak",
    )
    weight_decay: float = Field(0.01, ge=0, description="AdamW's decay of the weights")
    max_grad_norm: float = Field(1.0, gt=0, description="a gradient with a larger L2 norm is scaled down to this one")
    replay_fraction: float = Field(0.5, ge=0, lt=1, description="share of each batch that is student_right pairs")
    freeze_vision: bool = Field(
        False, description="train the language model only: image features are then computed once and cached"
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="bf16: matrix products in bfloat16; the weights that are trained stay float32"
    )
    length_bucketing: bool = Field(
        False, description="put samples of similar length into a batch: less padding, but less mixed batches"
    )
    gradient_checkpointing: bool = Field(
        False, description="compute activations again in the backward pass: less memory, about a third slower"
    )
    save_every_steps: int = Field(
        100, ge=1, description="optimiser steps between two saved ones, from which a stopped training resumes"
    )
    loss: LossSpec = Field(LossSpec(), description="what is minimised")
    lora: LoraSpec | None = Field(None, description="for method lora only; null: the defaults")

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
    """When the candidate is promoted: agreement is the share of held-out answers that match the teacher's."""

    held_out_fraction: float = Field(
        0.1, gt=0, lt=1, description="share of the images that are never trained on, but measured on"
    )
    min_gain: float = Field(
        0.0, ge=0, le=1, description="least growth of agreement over all tasks; equal agreement is never enough"
    )
    min_questions: int | None = Field(
        None,
        ge=1,
        description="from this many held-out questions on, a gain is enough even if its 95 % interval contains 0; "
        "null: the interval must lie above 0",
    )
    tolerance: float = Field(0.02, ge=0, le=1, description="agreement that a single task may lose")
    promote: bool = Field(True, description="False: train and evaluate, but never touch the running student")


def _as_list(source: Any) -> Any:
    return [source] if isinstance(source, dict) else source


class JobSpec(Contract):
    """What a team submits to ``POST /v1/jobs``."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"images": [{"kind": "folder", "path": "/data/signs"}], "tasks": ["textvqa"]},
                {"images": [{"kind": "upload", "upload_id": "up-5d41402abc4b2a76"}], "tasks": ["textvqa"]},
            ]
        }
    )

    name: str = Field("", max_length=200, description="for people: shown in lists, no meaning to the service")
    images: Annotated[
        list[ImageSource], BeforeValidator(_as_list, json_schema_input_type=list[ImageSource] | ImageSource)
    ] = Field(min_length=1, description="one source or a list of them")
    tasks: list[str] = Field(
        min_length=1, description="names of task profiles, asked of every image whose source names none"
    )
    student: str = Field(
        "student", pattern=NAME_PATTERN, description="name of the student that is compared, trained and promoted"
    )
    annotator: AnnotatorSpec = Field(AnnotatorSpec(), description="how questions and answers are made")
    identifier: IdentifierSpec = Field(IdentifierSpec(), description="which pairs are kept")
    discrepancies: DiscrepancySpec = Field(DiscrepancySpec(), description="what is measured of the kept pairs")
    train: TrainSpec = Field(TrainSpec(), description="how the student is trained")
    rounds: RoundsSpec = Field(RoundsSpec(), description="how often the job mines and trains again")
    gate: GateSpec = Field(GateSpec(), description="when the result is promoted")
    benchmark: str | None = Field(
        None,
        description="path of a labelled JSONL file (image, task, question, answers), read by the evaluation only; "
        "null: only agreement with the teacher is measured",
    )
    shard_size: int = Field(64, ge=1, le=10_000, description="images in a shard, the unit that a worker mines at once")
    seed: int = Field(0, ge=0, description="of sampling, of the held-out split and of the order of training")


class StoredSpec(Stored):
    """``jobs/<id>/spec.json``: enough to rebuild a job's record when Redis is lost."""

    job_id: str = Field(description="id of the job")
    created_at: datetime = Field(description="when the job was accepted")
    spec: JobSpec = Field(description="what was submitted")
    images: int = Field(description="number of images")
    shards: int = Field(description="number of shards that the images make")
    idempotency_key: str | None = Field(None, description="the submitter's Idempotency-Key")
    idempotency_digest: str | None = Field(
        None, description="digest of the request with that key, which tells a repetition from another request"
    )
    left_out: list[LeftOut] = Field([], description="files of the sources that are not images of the job, by reason")
