"""What one training run needs, written to ``run.json`` for the process that does it, and what that process leaves
behind.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter

from shared.contracts import Evaluation, JobSpec, SmokeAnswer

T = TypeVar("T")
_TAIL = 4096
TRACE_VARIABLE = "MPA_RUN_TRACEPARENT"
"""Environment of a training process: the trace that its log lines belong to."""


@dataclass(frozen=True)
class RunConfig:
    """One training, reproducible from this and the set. Sizes in bytes; ``folder`` is the run's working folder.

    It starts from ``base_folder``; ``before_folder`` holds what its candidate is compared with, if that is another.
    """

    job_id: str
    spec: JobSpec
    folder: Path
    base_version: str
    base_folder: Path
    store_url: str
    cache_dir: Path
    set_digest: str
    tasks_file: Path | None = None
    device: str = "auto"
    threads: int = 1
    trust_remote_code: bool = False
    eval_batch_size: int = 32
    cache_bytes: int = 2 * 1024**3
    max_image_bytes: int = 20 * 1024**2
    max_image_pixels: int = 50_000_000
    min_image_side: int = 2
    allow_image_urls: bool = False
    allow_private_image_urls: bool = False
    teacher_url: str = ""
    teacher_name: str = "teacher"
    call_timeout: float = 120.0
    round: int = 1
    before_folder: Path | None = None
    accelerate_config: Path | None = None
    report_to: tuple[str, ...] = ()

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
    """``result.json``: written last by the training, so that it marks a complete candidate folder."""

    steps: int
    final_loss: float
    samples_per_second: float
    disparity_pairs: int
    replay_pairs: int
    loss_weights: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationResult:
    """``evaluation.json``: what the gate decides on, and the answer that servers check the candidate by.

    ``evaluation_new``: the same on the held-out pairs of a later round.
    """

    evaluation: Evaluation
    smoke: SmokeAnswer | None = None
    evaluation_new: Evaluation | None = None


@dataclass(frozen=True)
class Failure:
    """``failure.json``: why the process gave up, in words; ``final`` if another try would fail in the same way."""

    detail: str
    final: bool


@dataclass(frozen=True)
class Progress:
    """One line of ``progress.jsonl``, one a step. ``terms``: means of the loss's terms, before their λ and weights."""

    step: int
    steps: int
    loss: float
    samples_per_second: float | None = None
    eta_seconds: float | None = None
    memory_bytes: int | None = None
    gradient_norm: float | None = None
    terms: dict[str, float] = field(default_factory=dict)


def save(path: Path, value: RunConfig | TrainResult | EvaluationResult | Failure) -> None:
    """Write ``value`` as JSON; a reader sees all of it or the old file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{path.name}")
    temporary.write_bytes(TypeAdapter(type(value)).dump_json(value, indent=2))
    temporary.replace(path)


def load(kind: type[T], path: Path) -> T | None:
    """The value in ``path``; None if there is no (whole) such file."""
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def read_progress(file: Path) -> list[Progress]:
    """All lines of a progress file; one that is being written right now is left out."""
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
            lines.append(Progress(**json.loads(text)))
        except (ValueError, TypeError):
            continue
    return lines
