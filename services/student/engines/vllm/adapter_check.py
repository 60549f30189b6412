"""Whether vLLM can serve the whole of a LoRA adapter. Runs in vLLM's worker process.

vLLM looks only at the last part of a module's name: it loads an adapter of the vision tower's ``q_proj`` without an
error and never applies it. It finds wrong shapes only when half of the adapter is in its buffers. So everything is
checked first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shared.checkpoints.adapters import ADAPTER_WEIGHTS
from shared.checkpoints.weights import read_tensor_table

Place = tuple[Any, int]
"""A layer that vLLM adapts, and the number of a module among its packed parts (q, k and v are one layer)."""


def why_not_adaptable(runner: Any, folder: Path) -> str | None:
    """What is wrong with the adapter in ``folder`` for the model of ``runner``; None if nothing is."""
    from vllm.lora.peft_helper import PEFTHelper
    from vllm.lora.utils import parse_fine_tuned_lora_name

    if getattr(runner, "lora_manager", None) is None:
        return "vLLM was started without LoRA"
    manager = runner.lora_manager._adapter_manager
    PEFTHelper.from_local_dir(str(folder), None).validate_legal(manager.lora_config)
    mapper = getattr(manager.model, "hf_to_vllm_mapper", None)
    renames = mapper.get_rename_mapper() if mapper is not None else None
    places = _places(manager)
    halves: dict[str, set[bool]] = {}
    for name, info in read_tensor_table(folder / ADAPTER_WEIGHTS).items():
        module, is_first = parse_fine_tuned_lora_name(name, renames)
        if module not in places:
            return f"vLLM adapts only linear layers of the language model, and {module} is not one"
        problem = _misfit(places[module], info.shape, is_first=is_first)
        if problem:
            return f"{name} {problem}"
        halves.setdefault(module, set()).add(is_first)
    single = sorted(module for module, found in halves.items() if len(found) == 1)
    if single:
        return f"{single[0]} has only one of its two matrices"
    return None


def _places(manager: Any) -> dict[str, Place]:
    found: dict[str, Place] = {}
    for name, layer in manager.modules.items():
        if hasattr(layer, "lora_a_stacked") and hasattr(layer, "output_slices"):  # linear, not an embedding or experts
            for part, module in enumerate(manager.packed_modules.get(name) or [name]):
                found[module] = (layer, part)
    return found


def _misfit(place: Place, shape: tuple[int, ...], *, is_first: bool) -> str | None:
    """Buffers are [slots, 1, max rank, in] and [slots, 1, out, max rank]; a file has [rank, in] and [out, rank]."""
    layer, part = place
    if getattr(layer, "tp_size", 1) > 1 or part >= len(layer.lora_a_stacked):  # each worker has a slice of it
        return None
    rows, columns = (layer.lora_a_stacked if is_first else layer.lora_b_stacked)[part].shape[-2:]
    fits = len(shape) == 2 and (
        (shape[0] <= rows and shape[1] == columns) if is_first else (shape[0] == rows and shape[1] <= columns)
    )
    wanted = f"[at most {rows}, {columns}]" if is_first else f"[{rows}, at most {columns}]"
    return None if fits else f"has shape {list(shape)} instead of {wanted}"
