"""Overwrite a model's weights from a checkpoint's files, in chunks, so that memory never holds a second copy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from services.student.engines.checkpoint import STORED, check_finite, essence, read_chunks
from shared.checkpoints.stored_names import StoredNames, find_places
from shared.checkpoints.weights import read_tensor_table
from shared.errors import BadCheckpoint


def check_fits(model: Any, serving: Path, folder: Path) -> None:
    """Raises BadCheckpoint unless the weights in ``folder`` can replace those of ``model``, which came from
    ``serving``.

    Names and shapes must be the model's own (tied weights may be stored once), the configuration the same, and no value
    NaN or infinite. Tensors that the model does not use are ignored if ``serving`` has them too.
    """
    _check_config(serving, folder)
    table = read_tensor_table(folder)
    found = find_places(model, table)
    # The old files are read only if they matter: a good checkpoint is loaded even if the serving one's are gone.
    carried = read_tensor_table(serving).keys() if found.unused else set()
    unknown = sorted(found.converted | (found.unused - carried))
    missing = _missing(model, found.places.values())
    if unknown or missing:
        raise BadCheckpoint(
            f"{folder} cannot be loaded in place: {_some(missing) or 'nothing'} is missing from it, "
            f"{_some(unknown) or 'nothing'} is unknown to the model. Serve it with MPA_STUDENT_SWAP=double_buffer."
        )
    for name, place in found.places.items():
        info = table[name]
        if tuple(info.shape) != tuple(place.shape) or info.dtype not in STORED:
            raise BadCheckpoint(
                f"{folder}: {name} is {info.dtype} {list(info.shape)}, but the model needs "
                f"{list(place.shape)} of floats."
            )
    # In the dtype it serves in: what fits bfloat16 may be infinite in float16.
    as_served = ((name, values.to(place.dtype)) for name, _, values, place in _placed(found, folder))
    check_finite(folder, as_served)


@torch.no_grad()
def overwrite(model: Any, folder: Path) -> None:
    """Copy the weights in ``folder``, which `check_fits`, over the model's."""
    found = find_places(model, read_tensor_table(folder))
    for _, start, values, place in _placed(found, folder):
        place.view(-1)[start : start + len(values)].copy_(values)


def _placed(found: StoredNames, folder: Path) -> Iterator[tuple[str, int, Tensor, Tensor]]:
    """Of each chunk that the model uses: its name, where it starts, its values, and the model's tensor."""
    for chunk in read_chunks(folder):
        place = found.places.get(chunk.name)
        if place is not None:
            yield chunk.name, chunk.start, chunk.values, place


def _missing(model: Any, found: Iterable[Tensor]) -> list[str]:
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
