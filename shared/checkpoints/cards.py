"""Lineage cards: what a checkpoint was made from, by whom and with what."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path

from shared.checkpoints.files import checkpoint_files, digest_of, hash_files
from shared.contracts import AnswerPrompt, CardAdapter, CheckpointCard, Evaluation, SmokeAnswer, TrainSpec

_PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "accelerate",
    "peft",
    "numpy",
    "pillow",
)


def package_versions() -> dict[str, str]:
    """Versions of the installed packages that shape a checkpoint."""
    found: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            found[name] = package_version(name)
        except PackageNotFoundError:
            continue
    return found


def build_card(
    folder: Path,
    *,
    version: str,
    student: str,
    files: Iterable[Path] | None = None,
    base: str | None = None,
    job_id: str | None = None,
    set_digest: str | None = None,
    seed: int | None = None,
    train: TrainSpec | None = None,
    loss: dict[str, float] | None = None,
    evaluation: Evaluation | None = None,
    smoke: SmokeAnswer | None = None,
    teacher: str | None = None,
    prompts: Iterable[AnswerPrompt] = (),
    adapter: CardAdapter | None = None,
) -> CheckpointCard:
    """The card of the checkpoint in ``folder`` (of ``files`` only, if given): files are hashed, lineage is as given."""
    hashed = hash_files(folder, checkpoint_files(folder) if files is None else files)
    return CheckpointCard(
        version=version,
        student=student,
        base=base,
        job_id=job_id,
        created_at=datetime.now(UTC),
        digest=digest_of(hashed),
        files=hashed,
        set_digest=set_digest,
        seed=seed,
        train=train,
        loss=loss or {},
        evaluation=evaluation,
        smoke=smoke,
        packages=package_versions(),
        teacher=teacher,
        prompts=list(prompts),
        adapter=adapter,
    )
