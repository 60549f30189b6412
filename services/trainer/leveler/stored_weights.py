"""A model's weights in the files, names and dtypes of the base that it was loaded from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from shared.checkpoints import read_tensor_table
from shared.checkpoints.stored_names import find_places
from shared.checkpoints.weights import weight_files
from shared.errors import BadCheckpoint

Read = Callable[[], Tensor]


@torch.no_grad()
def write_like(model: Any, saved: Path, base: Path, folder: Path) -> list[str]:
    """Write the weights of ``model`` to ``folder``, in files like those of ``base``. ``saved`` is what save_pretrained
    made of the model: it undoes what transformers did to names and shapes when it loaded the base.

    Returns the names of the tensors whose stored values differ from the base's, sorted. Raises BadCheckpoint.
    """
    changed: list[str] = []
    with ExitStack() as opened:
        trained = _read_all(opened, weight_files(saved))
        _take_tied(model, trained, base)
        for file in weight_files(base):
            old = _read_all(opened, [file])
            tensors = {name: _as_stored(trained.get(name, read)(), read()) for name, read in old.items()}
            changed += [name for name, tensor in tensors.items() if not same_bytes(tensor, old[name]())]
            target = folder / file.relative_to(base)
            target.parent.mkdir(parents=True, exist_ok=True)
            save_file(tensors, target, metadata={"format": "pt"})
    return sorted(changed)


def same_bytes(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one dtype and shape are stored alike; NaN equals itself."""
    return torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))


def _read_all(opened: ExitStack, files: Iterable[Path]) -> dict[str, Read]:
    """Reads of one tensor each, so that memory never holds all of them."""
    reads: dict[str, Read] = {}
    for file in files:
        source: Any = opened.enter_context(safe_open(file, "pt"))
        reads |= {name: lambda name=name, source=source: source.get_tensor(name) for name in source.keys()}  # noqa: SIM118
    return reads


def _take_tied(model: Any, trained: dict[str, Read], base: Path) -> None:
    """Add to ``trained`` what the base stores and save_pretrained leaves out: second names of tied weights.

    Raises BadCheckpoint if something is left out that the model uses, or the base stores nothing of a weight.
    """
    stored = read_tensor_table(base).keys()
    found = find_places(model, [*stored, *trained])
    for name in sorted(stored - trained.keys()):
        if name in found.converted:
            raise BadCheckpoint(f"{base}: transformers loads the tensor {name!r} but cannot save it again.")
        if name in found.places:
            place = found.places[name]
            trained[name] = lambda place=place: place.detach().cpu().clone()  # type: ignore[misc]
    covered = {id(found.places[name]) for name in stored if name in found.places}
    for name in sorted(trained.keys() - stored):
        if name not in found.places or id(found.places[name]) not in covered:
            raise BadCheckpoint(
                f"{base} does not store {name!r}, which its model has: it would start with random values. Take a base "
                "that is complete."
            )


def _as_stored(tensor: Tensor, old: Tensor) -> Tensor:
    """In the base's dtype. Safetensors refuses tensors that share memory, or are not contiguous."""
    return tensor.to(old.dtype).contiguous()
