"""Integrity of a checkpoint folder on disk: digests, cards and forbidden files, all without torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from shared.checkpoints.weights import TensorInfo, first_line, read_tensor_table
from shared.compatibility import read_stored
from shared.contracts import CardFile, CheckpointCard
from shared.errors import BadCheckpoint, NewerSchema

CARD_NAME = "mpa_card.json"
PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})


def checkpoint_files(folder: Path) -> list[Path]:
    """The files that make up the checkpoint in ``folder``: all but the card and hidden ones, sorted by relative
    name.
    """
    found = (p for p in folder.rglob("*") if p.is_file() and not _hidden(p.relative_to(folder)))
    kept = (p for p in found if p.relative_to(folder).as_posix() != CARD_NAME)
    return sorted(kept, key=lambda p: p.relative_to(folder).as_posix())


def hash_files(folder: Path, files: Iterable[Path]) -> list[CardFile]:
    """Size and sha256 of each file, named relative to ``folder``."""
    return [
        CardFile(
            name=path.relative_to(folder).as_posix(),
            size=path.stat().st_size,
            sha256=_sha256(path),
        )
        for path in files
    ]


def digest_of(files: Iterable[CardFile]) -> str:
    """sha256 over the sorted (name, sha256) of ``files``."""
    lines = sorted(f"{file.name}\0{file.sha256}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_card(folder: Path) -> CheckpointCard:
    """The card in ``folder``; raises BadCheckpoint if it is missing or cannot be parsed."""
    try:
        return parse_card((folder / CARD_NAME).read_bytes(), str(folder))
    except FileNotFoundError as error:
        raise BadCheckpoint(
            f"{folder} has no {CARD_NAME}, so it was never published whole: publish it again or pick another version."
        ) from error


def parse_card(data: bytes, where: str) -> CheckpointCard:
    """A card from its JSON bytes; raises BadCheckpoint naming ``where``."""
    try:
        return read_stored(CheckpointCard, data, f"{CARD_NAME} of {where}")
    except NewerSchema as error:
        raise BadCheckpoint(error.detail) from error
    except ValueError as error:
        raise BadCheckpoint(
            f"{CARD_NAME} of {where} cannot be read ({first_line(error)}): "
            "restore the file or publish the version again."
        ) from error


def verify_folder(folder: Path, card: CheckpointCard) -> dict[str, TensorInfo]:
    """Check that ``folder`` holds exactly what ``card`` says, safely loadable; returns its tensor table.

    Raises BadCheckpoint with the first thing that is wrong: pickles, missing or unlisted files, sizes, hashes,
    config, tensors.
    """
    _refuse_pickles(folder)
    listed = {file.name: file for file in card.files}
    for file in card.files:
        _verify_file(folder, file)
    for path in checkpoint_files(folder):
        name = path.relative_to(folder).as_posix()
        if name not in listed:
            raise BadCheckpoint(
                f"{path} is not listed in the card of {card.version}: remove the file or publish a new version."
            )
    if digest_of(card.files) != card.digest:
        raise BadCheckpoint(
            f"The card of {card.version} contradicts itself: its digest does not follow from its files. "
            "Publish the version again."
        )
    return verify_loadable(folder)


def verify_loadable(folder: Path, *, ignore_pickles: bool = False) -> dict[str, TensorInfo]:
    """Check that ``folder`` is a Hugging Face folder with safetensors weights; returns the tensor table. Raises
    BadCheckpoint.

    ``ignore_pickles`` is for model folders of a hub, which keep old formats beside the safetensors: we never copy
    those.
    """
    if not ignore_pickles:
        _refuse_pickles(folder)
    _read_config(folder)
    return read_tensor_table(folder)


def _verify_file(folder: Path, file: CardFile) -> None:
    if PurePosixPath(file.name).is_absolute() or ".." in PurePosixPath(file.name).parts:
        raise BadCheckpoint(
            f"The card lists {file.name!r}, a path outside the checkpoint folder: do not use this checkpoint."
        )
    path = folder / file.name
    if not path.is_file():
        raise BadCheckpoint(f"{path} is missing: copy the checkpoint again or roll back to another version.")
    size = path.stat().st_size
    if size != file.size:
        problem = "truncated" if size < file.size else "longer than it was"
        raise BadCheckpoint(f"{path} is {problem}: {size} bytes instead of {file.size}. Copy the checkpoint again.")
    if _sha256(path) != file.sha256:
        raise BadCheckpoint(f"{path} was changed: its sha256 is not the card's. Copy the checkpoint again.")


def _refuse_pickles(folder: Path) -> None:
    if not folder.is_dir():
        raise BadCheckpoint(f"{folder} is not a folder: name a Hugging Face folder with safetensors weights.")
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in PICKLE_SUFFIXES:
            raise BadCheckpoint(
                f"{path} is a pickle, which could run code when it is loaded: "
                "remove it and save the weights as safetensors."
            )


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise BadCheckpoint(f"{folder} has no config.json: a checkpoint is a whole Hugging Face folder.")
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise BadCheckpoint(f"{path} is not valid JSON ({error}): copy the checkpoint again.") from error
    if not isinstance(config, dict):
        raise BadCheckpoint(f"{path} is not a JSON object: copy the checkpoint again.")
    return config


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)
