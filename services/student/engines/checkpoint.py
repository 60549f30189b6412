"""What every engine checks of a checkpoint's files and answers before the checkpoint serves."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from shared.checkpoints.weights import weight_files
from shared.contracts import SmokeAnswer
from shared.errors import BadCheckpoint

CHUNK_BYTES = 1 << 20
STORED = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
IGNORED_KEYS = ("_name_or_path", "dtype", "torch_dtype", "transformers_version", "_commit_hash")


@dataclass(frozen=True)
class Chunk:
    """Values ``start`` … ``start + len(values)`` of a tensor, flat, in the dtype of the file."""

    name: str
    start: int
    values: Tensor


def check_answer(folder: Path, smoke: SmokeAnswer, answer: str) -> None:
    """Raises BadCheckpoint unless ``answer`` is the one that the card recorded for its smoke question."""
    if answer.strip() != smoke.answer.strip():
        raise BadCheckpoint(
            f"{folder} answers {answer.strip()!r} to the smoke question {smoke.question!r}; its card says "
            f"{smoke.answer!r}. The files are not what was trained, or another library version reads them differently."
        )


def check_finite(folder: Path, weights: Iterable[tuple[str, Tensor]]) -> None:
    """Raises BadCheckpoint naming the first weight that holds NaN or infinite values."""
    for name, values in weights:
        if values.is_floating_point() and not bool(torch.isfinite(values).all()):
            raise BadCheckpoint(f"{folder}: the weight {name} holds NaN or infinite values. Train it again.")


def check_stored_finite(model: Path) -> None:
    """As `check_finite`, for the weights in a folder or in one weight file."""
    check_finite(model, ((chunk.name, chunk.values) for chunk in read_chunks(model)))


def essence(config: Any) -> Any:
    """A configuration without the keys that say nothing about the model."""
    if isinstance(config, dict):
        return {key: essence(value) for key, value in config.items() if key not in IGNORED_KEYS}
    return [essence(value) for value in config] if isinstance(config, list) else config


def read_chunks(model: Path) -> Iterator[Chunk]:
    """All float tensors of a folder or of one weight file, in chunks.

    The files are read, not mapped: mapped pages count as memory.
    """
    buffer = bytearray(CHUNK_BYTES)
    for path in weight_files(model):
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header: dict[str, Any] = json.loads(file.read(size))
            header.pop("__metadata__", None)
            for name, info in header.items():
                if info["dtype"] in STORED:
                    yield from _tensor_chunks(file, buffer, 8 + size, name, info)


def _tensor_chunks(
    file: BinaryIO, buffer: bytearray, data_start: int, name: str, info: Mapping[str, Any]
) -> Iterator[Chunk]:
    dtype = STORED[info["dtype"]]
    begin, end = info["data_offsets"]
    file.seek(data_start + begin)
    for offset in range(0, end - begin, CHUNK_BYTES):
        view = memoryview(buffer)[: min(CHUNK_BYTES, end - begin - offset)]
        if file.readinto(view) != len(view):  # type: ignore[attr-defined]  # BinaryIO lacks what files have
            raise BadCheckpoint(f"{file.name} ended in the middle of {name}: it changed while it was read.")
        yield Chunk(name, offset // dtype.itemsize, torch.frombuffer(view, dtype=dtype))
