"""What the processes of a training do together: exchange numbers, and join their shards into one model."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import Trainer

from services.trainer.launch.ranks import Ranks
from shared.errors import InvalidInput

S = TypeVar("S")
T = TypeVar("T")
Gather = Callable[[list[float]], list[list[float]]]
"""From a row of numbers of this process to the rows of all processes."""


def gather_rows(accelerator: Any) -> Gather:
    """Give every process the numbers of all, one row per process. All must call it equally often."""

    def gather(row: list[float]) -> list[list[float]]:
        if accelerator.num_processes == 1:
            return [row]
        own = torch.tensor([row], dtype=torch.float64, device=accelerator.device)
        rows: list[list[float]] = accelerator.gather(own).tolist()
        return rows

    return gather


def shared_out(items: Sequence[S], work: Callable[[S], T], ranks: Ranks) -> list[T]:
    """The result of ``work`` for each item: one process does it, and all get it. All must call this function."""
    own = [work(item) for item in items[ranks.index :: ranks.count]]
    if ranks.count == 1:
        return own
    shares: list[list[T]] = [[] for _ in range(ranks.count)]
    torch.distributed.all_gather_object(shares, own)
    return [shares[place % ranks.count][place // ranks.count] for place in range(len(items))]


def everyone(said: bool, ranks: Ranks) -> bool:
    """Whether ``said`` is true in all processes; also a barrier."""
    return all(shared_out([None] * ranks.count, lambda _: said, ranks))


def check_sharding(trainer: Trainer) -> None:
    """Raises InvalidInput if accelerate was asked for FSDP but ignored it, as it does on CPUs."""
    if os.environ.get("ACCELERATE_USE_FSDP") == "true" and not trainer.is_fsdp_enabled:
        raise InvalidInput(
            "MPA_TRAIN_ACCELERATE_CONFIG asks for FSDP, which accelerate supports on GPUs only: "
            "use distributed_type MULTI_CPU on CPUs."
        )


def whole_model(trainer: Trainer, rebuild: Callable[[], nn.Module]) -> nn.Module | None:
    """The trained model with all its weights, in the first process; None in the others. All must call it.

    Shards (FSDP, DeepSpeed) are gathered and loaded into what ``rebuild`` returns: the model as it was before training.
    """
    accelerator = trainer.accelerator
    if not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        model: nn.Module = accelerator.unwrap_model(trainer.model)
        return model if accelerator.is_main_process else None
    state = accelerator.get_state_dict(trainer.model_wrapped)
    if not accelerator.is_main_process:
        return None
    whole = rebuild()
    whole.load_state_dict(state)
    return whole


def wrap_repeated_layers(trainer: Trainer, model: nn.Module) -> None:
    """Have FSDP shard layer by layer. The model classes' own lists are incomplete, so the repeated blocks are used.

    If the operator's file names layers, those are used.
    """
    plugin = getattr(trainer.accelerator.state, "fsdp_plugin", None)
    if plugin is not None and plugin.transformer_cls_names_to_wrap is None:
        plugin.transformer_cls_names_to_wrap = repeated_layers(model)


def repeated_layers(model: nn.Module) -> list[str]:
    """Class names of the blocks that towers and decoders consist of."""
    stacks = (module for name, module in model.named_modules() if isinstance(module, nn.ModuleList) and len(module))
    names = {type(stack[0]).__name__ for stack in stacks if len({type(layer) for layer in stack}) == 1}
    return sorted(name for name in names if name not in _PLAIN)


_PLAIN = frozenset({"Linear", "Conv2d", "LayerNorm", "ModuleList"})
