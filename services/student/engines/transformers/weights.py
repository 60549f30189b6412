"""Overwrite a model's weights from a checkpoint's files, in chunks, so that memory never holds a second copy."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from services.student.engines.checkpoint import STORED, check_finite, essence, read_chunks
from shared.checkpoints.files import read_tensor_table
from shared.errors import BadCheckpoint


def check_fits(model: Any, serving: Path, folder: Path) -> None:
    """Raises BadCheckpoint unless the weights in ``folder`` can replace those of ``model``, which came from
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
            f"{folder} cannot be loaded in place: {_some(missing) or 'nothing'} is missing from it, "
            f"{_some(unknown) or 'nothing'} is unknown to the model. Serve it with MPA_STUDENT_SWAP=double_buffer."
        )
    found = {name: place for name, place in places.items() if place is not None}
    for name, info in table.items():
        if tuple(info.shape) != tuple(found[name].shape) or info.dtype not in STORED:
            raise BadCheckpoint(
                f"{folder}: {name} is {info.dtype} {list(info.shape)}, but the model needs "
                f"{list(found[name].shape)} of floats."
            )
    # In the dtype it serves in: what fits bfloat16 may be infinite in float16.
    as_served = ((chunk.name, chunk.values.to(found[chunk.name].dtype)) for chunk in read_chunks(folder))
    check_finite(folder, as_served)


@torch.no_grad()
def overwrite(model: Any, folder: Path) -> None:
    """Copy the weights in ``folder``, which `check_fits`, over the model's."""
    places = _places(model, read_tensor_table(folder))
    for chunk in read_chunks(folder):
        place = places[chunk.name]
        assert place is not None
        place.view(-1)[chunk.start : chunk.start + len(chunk.values)].copy_(chunk.values)


def _places(model: Any, names: Iterable[str]) -> dict[str, Tensor | None]:
    """The model's tensor for each stored name; None if it has no such tensor, or makes it from several stored ones.

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
    """Names of the model's tensors that are not among ``found``. One of several tied weights is enough."""
    known = {id(tensor) for tensor in found}
    return sorted(name for name, tensor in model.state_dict(keep_vars=True).items() if id(tensor) not in known)


def _check_config(serving: Path, folder: Path) -> None:
    """Equal shapes do not make equal models: a rope base or a norm's epsilon is only in the configuration."""
    old, new = (essence(json.loads((path / "config.json").read_text())) for path in (serving, folder))
    if old != new:
        names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
        raise BadCheckpoint(
            f"{folder} cannot be loaded in place: its config.json differs from the serving one's in {_some(names)}. "
            "Serve it with MPA_STUDENT_SWAP=double_buffer."
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
