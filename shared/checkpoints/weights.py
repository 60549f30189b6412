"""The weights of a checkpoint without torch: which files hold them, and their names, dtypes and shapes."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shared.checkpoints.adapters import ADAPTER_CONFIG, MERGE_ADAPTER
from shared.errors import BadCheckpoint
from shared.store.trouble import disk_trouble

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
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


def read_tensor_table(model: Path) -> dict[str, TensorInfo]:
    """Names → dtype and shape of all tensors of a folder, or of one weight file, from the safetensors headers alone.

    Raises BadCheckpoint, for truncated files too.
    """
    shards = weight_files(model)
    table: dict[str, TensorInfo] = {}
    for shard in shards:
        for name, info in _read_header(shard).items():
            if name in table:
                raise BadCheckpoint(f"Tensor {name!r} is stored twice in {model}: save the checkpoint again.")
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


def weight_files(model: Path) -> list[Path]:
    """The weight files of the folder ``model`` that transformers loads, sorted. A single weight file stands for itself.

    These are the file that config.json names (``transformers_weights``), or else ``model.safetensors``, or else those
    of the index. Weights in other formats, adapters and other exports beside them are ignored. Raises BadCheckpoint.
    """
    if model.is_file():
        return [model]
    start = _named_start(model) or next((name for name in (WEIGHTS, INDEX) if (model / name).is_file()), None)
    if start is None:
        if (model / ADAPTER_CONFIG).is_file():
            raise BadCheckpoint(f"{model} has no weights of a whole model. {MERGE_ADAPTER}")
        found = ", ".join(sorted(path.name for path in model.glob("*.safetensors"))) or "no other one either"
        raise BadCheckpoint(
            f"{model} has no {WEIGHTS} and no {INDEX} (safetensors files: {found}): save the weights with "
            "save_pretrained(safe_serialization=True)."
        )
    if start == WEIGHTS and (model / INDEX).is_file():
        # A leftover, unless it counts this file as one of several: then the copy may be incomplete.
        shards = _indexed(model / INDEX, strict=False)
        _check_present(model, shards if WEIGHTS in shards else ())
    if not start.endswith(".index.json"):
        return [model / start]
    shards = _indexed(model / start)
    _check_present(model, shards)
    return [model / name for name in shards]


def index_file(folder: Path) -> Path | None:
    """The index by which transformers finds the weights in ``folder``; None if one file holds them all."""
    start = _named_start(folder)
    if start is None:
        start = INDEX if not (folder / WEIGHTS).is_file() and (folder / INDEX).is_file() else None
    return folder / start if start is not None and start.endswith(".index.json") else None


def _named_start(folder: Path) -> str | None:
    """The weight file, or the index, that config.json names instead of the usual ones."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    named = config.get("transformers_weights") if isinstance(config, dict) else None
    if named is None:
        return None
    if not isinstance(named, str) or not _is_inside(named) or not (folder / named).is_file():
        raise BadCheckpoint(
            f"{folder / 'config.json'} names {named!r} as transformers_weights, which is not a file in the folder: "
            "copy the file too, or remove the key."
        )
    if not named.endswith((".safetensors", ".safetensors.index.json")):
        raise BadCheckpoint(f"{folder / named} is not a safetensors file: save the weights again, as safetensors.")
    return named


def _indexed(index: Path, *, strict: bool = True) -> list[str]:
    """Names of the weight files in an index, sorted; if not ``strict``, none of an index that cannot be read."""
    try:
        named = sorted({str(name) for name in json.loads(index.read_bytes())["weight_map"].values()})
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        if not strict:
            return []
        trouble = disk_trouble(error)
        if trouble is not None:
            raise trouble from error
        raise BadCheckpoint(f"{index} cannot be read ({error}): copy the checkpoint again.") from error
    if strict and not named:
        raise BadCheckpoint(f"{index} names no weight file: copy the checkpoint again.")
    return named


def _check_present(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        if not _is_inside(name) or not (folder / name).is_file():
            raise BadCheckpoint(f"{folder / name} is missing, though the index names it: copy the checkpoint again.")


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts


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
        raise BadCheckpoint(f"{path} has a damaged safetensors header ({first_line(error)}): copy it again.") from error
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


def first_line(error: Exception) -> str:
    """The start of an error's text, which may have many lines."""
    lines: Iterator[str] = iter(str(error).splitlines())
    return " ".join(line.strip() for _, line in zip(range(3), lines, strict=False)) or type(error).__name__
