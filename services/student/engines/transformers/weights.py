"""Overwrite a model's weights from a checkpoint's files, in chunks: no second copy of the weights is ever in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from shared.checkpoints.files import read_tensor_table, weight_files
from shared.errors import BadCheckpoint

CHUNK_BYTES = 1 << 20
STORED = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
IGNORED_CONFIG = ("_name_or_path", "dtype", "torch_dtype", "transformers_version")


@dataclass(frozen=True)
class Chunk:
    """Values ``start`` … ``start + len(values)`` of a tensor, flat, in the dtype of the file."""

    name: str
    start: int
    values: Tensor


def check_fits(model: Any, serving: Path, folder: Path) -> None:
    """Raises BadCheckpoint unless the weights in ``folder`` can take the place of the ``model``'s, which came from
    ``serving``.

    Names and shapes must be the model's own (tied weights may be stored once), the configuration the same, and no value
    NaN or infinite.
    """
    _check_config(serving, folder)
    table = read_tensor_table(folder)
    places = _places(model, table)
    unknown = sorted(name for name, place in places.items() if place is None)
    missing = _missing(model, places.values())
    if unknown or missing:
        raise BadCheckpoint(
            f"{folder} cannot be loaded in place: {_some(missing) or 'nothing'} is missing in it, "
            f"{_some(unknown) or 'nothing'} is unknown to the model. Serve it with MPA_STUDENT_SWAP=double_buffer."
        )
    found = {name: place for name, place in places.items() if place is not None}
    for name, info in table.items():
        if tuple(info.shape) != tuple(found[name].shape) or info.dtype not in STORED:
            raise BadCheckpoint(
                f"{folder}: {name} is {info.dtype} {list(info.shape)}, the model wants "
                f"{list(found[name].shape)} of floats."
            )
    for chunk in read_chunks(folder):
        as_served = chunk.values.to(found[chunk.name].dtype)  # what fits bfloat16 may be infinite in float16
        if not bool(torch.isfinite(as_served).all()):
            raise BadCheckpoint(f"{folder}: the weight {chunk.name} holds NaN or infinite values. Train it again.")


@torch.no_grad()
def overwrite(model: Any, folder: Path) -> None:
    """Copy the weights in ``folder``, which `check_fits`, over the model's."""
    places = _places(model, read_tensor_table(folder))
    for chunk in read_chunks(folder):
        place = places[chunk.name]
        assert place is not None
        place.view(-1)[chunk.start : chunk.start + len(chunk.values)].copy_(chunk.values)


def read_chunks(folder: Path) -> Iterator[Chunk]:
    """All tensors of a checkpoint, piece by piece. The files are read, not mapped: mapped pages count as memory too."""
    buffer = bytearray(CHUNK_BYTES)
    for path in weight_files(folder):
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header: dict[str, Any] = json.loads(file.read(size))
            header.pop("__metadata__", None)
            for name, info in header.items():
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


def _places(model: Any, names: Iterable[str]) -> dict[str, Tensor | None]:
    """The model's tensor for each stored name; None for a name that it has not, or makes of several stored ones.

    Names are renamed as transformers does when it loads: some families are stored by the names of older releases.
    """
    tensors: dict[str, Tensor] = dict(model.state_dict(keep_vars=True))
    steps = get_model_conversion_mapping(model)
    renamings = [step for step in steps if isinstance(step, WeightRenaming)]
    converters = [step for step in steps if isinstance(step, WeightConverter)]
    places: dict[str, Tensor | None] = {}
    for name in names:
        renamed, converter = rename_source_key(name, renamings, converters, model.base_model_prefix, tensors)
        places[name] = tensors.get(renamed if renamed in tensors else name) if converter is None else None
    return places


def _missing(model: Any, found: Iterable[Tensor | None]) -> list[str]:
    """Names of the model's tensors that are not among ``found``; of tied weights one is enough."""
    known = {id(tensor) for tensor in found}
    return sorted(name for name, tensor in model.state_dict(keep_vars=True).items() if id(tensor) not in known)


def _check_config(serving: Path, folder: Path) -> None:
    """Equal shapes do not make equal models: a rope base or a norm's epsilon is in the configuration only."""
    old, new = (json.loads((path / "config.json").read_text()) for path in (serving, folder))
    for config in (old, new):
        _forget(config)
    if old != new:
        names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
        raise BadCheckpoint(
            f"{folder} cannot be loaded in place: its config.json differs from the serving one's in {_some(names)}. "
            "Serve it with MPA_STUDENT_SWAP=double_buffer."
        )


def _forget(config: dict[str, Any]) -> None:
    for name in IGNORED_CONFIG:
        config.pop(name, None)
    for value in config.values():
        if isinstance(value, dict):
            _forget(value)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
