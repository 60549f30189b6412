"""What one training needs, written to ``run.json`` for its process, and what that process leaves behind."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter

from shared.contracts import Evaluation, JobSpec, SmokeAnswer
from shared.files import write_file

T = TypeVar("T")
_TAIL = 4096
TRACE_VARIABLE = "MPA_RUN_TRACEPARENT"
"""Environment variable of a training process: the trace that its log lines belong to."""


@dataclass(frozen=True)
class RunConfig:
    """One training, reproducible from this and the set. Paths are absolute; limits are those of the settings."""

    job_id: str
    """The job that is trained."""
    spec: JobSpec
    """What was submitted."""
    folder: Path
    """The run's working folder: saved steps, progress and results."""
    base_version: str
    """Version of the checkpoint that the training starts from."""
    base_folder: Path
    """The files of ``base_version``."""
    store_url: str
    """Store that holds the job's set, as in MPA_STORE."""
    cache_dir: Path
    """Local copies of what a remote store holds."""
    set_digest: str
    """Digest of the set that the training began with; "" leaves the check out."""
    tasks_file: Path | None = None
    """Task profiles besides the built-in ones (MPA_TASKS_FILE)."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N`` (MPA_TRAIN_DEVICE)."""
    threads: int = 1
    """CPU threads of torch on one machine, from 1; its processes share them."""
    trust_remote_code: bool = False
    """Run code that comes with a checkpoint. Only an operator may set it."""
    eval_batch_size: int = 32
    """Questions that a checkpoint is asked at once in the evaluation, from 1."""
    cache_bytes: int = 2 * 1024**3
    """Memory for encoded samples and for image features, half of it each, in bytes; 0: none."""
    max_image_bytes: int = 20 * 1024**2
    """Largest image file that is read, in bytes."""
    max_image_pixels: int = 50_000_000
    """Largest image that is decoded, in pixels (width times height)."""
    min_image_side: int = 2
    """Smallest width and height of an image, in pixels."""
    allow_image_urls: bool = False
    """Read images from http and https addresses."""
    allow_private_image_urls: bool = False
    """Read them from addresses inside the operator's network too."""
    teacher_url: str = ""
    """OpenAI-compatible endpoint of the teacher, asked the labelled benchmark only; "" without one."""
    teacher_name: str = "teacher"
    """Name of the teacher's model at ``teacher_url``."""
    call_timeout: float = 120.0
    """Time limit of a call to the teacher and of an image's download, in seconds."""
    round: int = 1
    """Round of the job that is trained, from 1."""
    before_folder: Path | None = None
    """Checkpoint that the candidate is compared with; None: ``base_folder``."""
    accelerate_config: Path | None = None
    """accelerate's configuration of several processes (MPA_TRAIN_ACCELERATE_CONFIG); None: one process."""
    report_to: tuple[str, ...] = ()
    """Reporters besides the progress file: tensorboard, mlflow, wandb (MPA_TRAIN_REPORT_TO)."""

    @property
    def step_folder(self) -> Path:
        return self.folder / "steps"

    @property
    def candidate(self) -> Path:
        return self.folder / "candidate"

    @property
    def progress_file(self) -> Path:
        return self.folder / "progress.jsonl"

    @property
    def curves(self) -> Path:
        """TensorBoard's event files."""
        return self.folder / "tensorboard"


@dataclass(frozen=True)
class TrainResult:
    """``result.json``: the training writes it last, so that it marks a complete candidate's folder."""

    steps: int
    """Optimiser steps."""
    final_loss: float
    """Mean loss of the last 20 steps, in nats."""
    samples_per_second: float
    """Speed over the last 20 steps."""
    disparity_pairs: int
    """Disparity pairs in the training set."""
    replay_pairs: int
    """Replay pairs in the training set."""
    loss_weights: dict[str, float] = field(default_factory=dict)
    """λ of each term of the loss that was on, by name."""
    changed_tensors: int | None = None
    """Tensors whose stored values differ from the base's; None in the results of earlier releases."""


@dataclass(frozen=True)
class EvaluationResult:
    """``evaluation.json``: written by the step ``evaluate``."""

    evaluation: Evaluation
    """Scores on the job's first held-out pairs, on which the gate decides."""
    smoke: SmokeAnswer | None = None
    """An answer of the candidate by which servers check that they loaded it whole; None without held-out pairs."""
    evaluation_new: Evaluation | None = None
    """Scores on the held-out pairs of a later round; None in the first one."""


@dataclass(frozen=True)
class Failure:
    """``failure.json``: why the process gave up."""

    detail: str
    """The reason, in words that a user can act on."""
    final: bool
    """Another try would fail in the same way."""
    storage: bool = False
    """A disk or the store was in trouble, so the same try goes on when that is over."""


@dataclass(frozen=True)
class Progress:
    """A line of ``progress.jsonl``, written after each step."""

    step: int
    """Optimiser steps done, from 1."""
    steps: int
    """Optimiser steps to do in all."""
    loss: float
    """Mean loss of the step's samples, in nats; null in the file if it is not finite."""
    samples_per_second: float | None = None
    """Speed over the last 20 steps, of all processes together."""
    eta_seconds: float | None = None
    """Seconds until the last step, at this speed."""
    memory_bytes: int | None = None
    """Most bytes that a process took so far: of its GPU, else of the machine."""
    gradient_norm: float | None = None
    """L2 norm of the gradient before clipping."""
    terms: dict[str, float] = field(default_factory=dict)
    """Means of the terms of the loss by name, before their λ and the weights of the pairs."""


def save(path: Path, value: RunConfig | TrainResult | EvaluationResult | Failure) -> None:
    """Write ``value`` as JSON; a reader sees either all of it or the old file."""
    write_file(path, to_json(value))


def to_json(value: RunConfig | TrainResult | EvaluationResult | Failure) -> bytes:
    return TypeAdapter(type(value)).dump_json(value, indent=2)


def load(kind: type[T], path: Path) -> T | None:
    """The value in ``path``; None if the file is missing or incomplete."""
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def read_progress(file: Path) -> list[Progress]:
    """All complete lines of a progress file: one may be being written right now."""
    if not file.exists():
        return []
    return _lines(file.read_bytes())


def last_progress(file: Path) -> Progress | None:
    """The newest line, without reading the whole file."""
    if not file.exists():
        return None
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - _TAIL))
        lines = _lines(opened.read())
    return lines[-1] if lines else None


def _lines(data: bytes) -> list[Progress]:
    lines = []
    for text in data.split(b"\n"):
        try:
            known = json.loads(text)
            lines.append(Progress(**known | {"loss": math.nan if known["loss"] is None else known["loss"]}))
        except (ValueError, TypeError, KeyError):
            continue
    return lines
