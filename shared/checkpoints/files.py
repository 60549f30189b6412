"""Integrity of a checkpoint folder on disk: digests, forbidden files, and safetensors headers, all without torch."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from shared.compatibility import read_stored
from shared.contracts import CardFile, CheckpointCard
from shared.errors import BadCheckpoint, NewerSchema

CARD_NAME = "mpa_card.json"
PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})
MAX_HEADER = 100 * 1024 * 1024

_DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
    "C64": 64,
}  # fmt: skip


@dataclass(frozen=True)
class TensorInfo:
    """Dtype by its safetensors name (``F32``, ``BF16``, …) and shape of one stored tensor."""

    dtype: str
    shape: tuple[int, ...]


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
            f"{CARD_NAME} of {where} cannot be read ({_first_line(error)}): "
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


def read_tensor_table(folder: Path) -> dict[str, TensorInfo]:
    """Names → dtype and shape of all tensors, from the safetensors headers alone; truncated files raise
    BadCheckpoint.
    """
    shards = weight_files(folder)
    table: dict[str, TensorInfo] = {}
    for shard in shards:
        for name, info in _read_header(shard).items():
            if name in table:
                raise BadCheckpoint(f"Tensor {name!r} is stored twice in {folder}: save the checkpoint again.")
            table[name] = info
    return table


def describe_difference(expected: dict[str, TensorInfo], found: dict[str, TensorInfo]) -> str | None:
    """In words, how the tensors of a checkpoint differ from the expected ones; None if names, shapes and dtypes are
    equal.
    """
    missing, extra = (
        sorted(expected.keys() - found.keys()),
        sorted(found.keys() - expected.keys()),
    )
    if missing:
        return f"{len(missing)} tensor(s) are missing, the first is {missing[0]!r}"
    if extra:
        return f"{len(extra)} tensor(s) are unknown to the model, the first is {extra[0]!r}"
    for name in sorted(expected):
        want, have = expected[name], found[name]
        if want.shape != have.shape:
            return f"tensor {name!r} has shape {list(have.shape)} instead of {list(want.shape)}"
        if want.dtype != have.dtype:
            return f"tensor {name!r} has dtype {have.dtype} instead of {want.dtype}"
    return None


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


def weight_files(folder: Path) -> list[Path]:
    """The shards that the index names, or else the one weight file; unindexed extra files are an error."""
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        raise BadCheckpoint(
            f"{folder} has no *.safetensors file: save the weights with save_pretrained(safe_serialization=True)."
        )
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        if len(found) > 1:
            raise BadCheckpoint(f"{folder} has {len(found)} safetensors files but no {index.name}: copy the index too.")
        return found
    try:
        named = {str(name) for name in json.loads(index.read_bytes())["weight_map"].values()}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise BadCheckpoint(f"{index} cannot be read ({error}): copy the checkpoint again.") from error
    missing = sorted(named - {path.name for path in found})
    if missing:
        raise BadCheckpoint(
            f"{folder / missing[0]} is missing, though {index.name} names it: copy the checkpoint again."
        )
    return [path for path in found if path.name in named]


def _read_header(path: Path) -> dict[str, TensorInfo]:
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        if len(prefix) < 8:
            raise BadCheckpoint(
                f"{path} is truncated: {size} bytes hold no safetensors header. Copy the checkpoint again."
            )
        (length,) = struct.unpack("<Q", prefix)
        if length > MAX_HEADER:
            raise BadCheckpoint(
                f"{path} is not a safetensors file: its header claims {length} bytes. Save the weights again."
            )
        if length > size - 8:
            raise BadCheckpoint(f"{path} is truncated inside its header ({size} of {8 + length} bytes): copy it again.")
        raw = file.read(length)
    try:
        entries = {name: entry for name, entry in json.loads(raw).items() if name != "__metadata__"}
        table = {name: TensorInfo(str(e["dtype"]), tuple(int(n) for n in e["shape"])) for name, e in entries.items()}
        spans = {name: (int(e["data_offsets"][0]), int(e["data_offsets"][1])) for name, e in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise BadCheckpoint(
            f"{path} has a damaged safetensors header ({_first_line(error)}): copy it again."
        ) from error
    if not table:
        raise BadCheckpoint(f"{path} holds no tensors: save the weights again.")
    _check_spans(path, table, spans, size - 8 - length)
    return table


def _check_spans(
    path: Path,
    table: dict[str, TensorInfo],
    spans: dict[str, tuple[int, int]],
    data: int,
) -> None:
    end = max((stop for _, stop in spans.values()), default=0)
    if end != data:
        problem = "truncated" if end > data else "longer than its header says"
        raise BadCheckpoint(
            f"{path} is {problem}: {data} bytes of tensors instead of {end}. Copy the checkpoint again."
        )
    for name, info in table.items():
        bits = _DTYPE_BITS.get(info.dtype)
        if bits is None or any(n < 0 for n in info.shape):
            raise BadCheckpoint(
                f"{path}: tensor {name!r} has dtype {info.dtype} and shape {list(info.shape)}, which is unknown."
            )
        count = 1
        for n in info.shape:
            count *= n
        start, stop = spans[name]
        if start < 0 or (stop - start) * 8 != count * bits:
            raise BadCheckpoint(
                f"{path}: the bytes of tensor {name!r} do not fit its shape. Save the checkpoint again."
            )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


def _first_line(error: Exception) -> str:
    lines: Iterator[str] = iter(str(error).splitlines())
    return " ".join(line.strip() for _, line in zip(range(3), lines, strict=False)) or type(error).__name__
