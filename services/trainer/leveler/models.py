"""The student as a trainable model: full or LoRA, and back to a plain folder that looks exactly like its base."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import GenerationConfig

from services.trainer.leveler.adapter import save_adapter
from services.trainer.leveler.stored_weights import write_like
from shared.checkpoints import (
    CARD_NAME,
    checkpoint_files,
    describe_difference,
    read_tensor_table,
    verify_loadable,
)
from shared.checkpoints.adapters import ADAPTER_FOLDER
from shared.contracts import LoraSpec, TrainSpec
from shared.errors import BadCheckpoint, InvalidInput

logger = logging.getLogger(__name__)

_GENERATION_CONFIG: Any = GenerationConfig  # untyped

_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})


def training_dtype(base: Path, spec: TrainSpec) -> str:
    """Weights that the optimiser changes are float32. Those that LoRA leaves alone stay in bfloat16 if they are stored
    and computed with in bfloat16: that takes half the memory and loses nothing.
    """
    stored = {info.dtype for info in read_tensor_table(base).values()} & _FLOATS
    return "bfloat16" if spec.method == "lora" and spec.precision == "bf16" and stored == {"BF16"} else "float32"


def language_model(model: nn.Module) -> nn.Module:
    """The decoder of a vision-language model, by the names in Hugging Face's classes. Raises InvalidInput."""
    for _, module in model.named_modules():
        for name in ("language_model", "text_model"):
            inner = getattr(module, name, None)
            if isinstance(inner, nn.Module) and hasattr(inner, "layers"):
                return inner
    raise InvalidInput(f"{type(model).__name__} has no language model that the trainer can find.")


def add_lora(model: Any, spec: LoraSpec, seed: int) -> PeftModel:
    """``model`` with LoRA adapters on the linear layers of its language model (or on the modules that the spec
    names).
    """
    targets = spec.target_modules or linear_layers(model)
    if not targets:
        raise InvalidInput(f"{type(model).__name__} has no linear layer for LoRA: set train.method to 'full'.")
    config = LoraConfig(r=spec.rank, lora_dropout=spec.dropout, target_modules=targets, bias="none")
    config.lora_alpha = spec.alpha  # type: ignore[assignment]  # peft takes any number
    shared = Counter(id(weight) for _, weight in model.named_parameters(remove_duplicate=False))
    torch.manual_seed(seed)
    try:
        adapted = get_peft_model(model, config)
    except ValueError as error:
        raise InvalidInput(f"train.lora.target_modules {targets} cannot be used: {error}") from error
    for name, module in adapted.named_modules():
        if name.endswith(".base_layer") and shared[id(module.weight)] > 1:
            raise InvalidInput(
                f"train.lora.target_modules names {name.removesuffix('.base_layer')}, whose weight is tied to another "
                "layer's: merging the adapter would change both. Leave it out, or set train.method to 'full'."
            )
    return adapted


def save_candidate(model: Any, base: Path, folder: Path) -> list[str]:
    """Write ``model`` (adapters merged) to ``folder`` with the base's config and processor files; adapters also as they
    are, next to it. The weights are stored as the base stores them: in files of the same names, tensor by tensor in its
    dtypes. What the base stores besides, and the model does not use, is carried over.

    Returns the names of the tensors whose stored values differ from the base's, sorted. Raises BadCheckpoint if the
    model has weights that the base does not store, or the base some that cannot be made of the model's.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _copy_all_but_weights(base, folder)
    if isinstance(model, PeftModel):
        save_adapter(model, folder)
    merged: Any = model.merge_and_unload() if isinstance(model, PeftModel) else model
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".tmp-weights-") as scratch:
        with _without_generation_config(merged):
            merged.save_pretrained(scratch, safe_serialization=True)
        changed = write_like(merged, Path(scratch), base, folder)
    difference = describe_difference(read_tensor_table(base), verify_loadable(folder))
    if difference:
        raise BadCheckpoint(f"The trained checkpoint does not match its base {base}: {difference}.")
    return changed


@contextmanager
def _without_generation_config(model: Any) -> Iterator[None]:
    """The library refuses to save a model whose generation config is invalid; candidates get the base's own file."""
    kept = getattr(model, "generation_config", None)
    model.generation_config = _GENERATION_CONFIG()
    try:
        yield
    finally:
        model.generation_config = kept


def _copy_all_but_weights(base: Path, folder: Path) -> None:
    for path in checkpoint_files(base):
        relative = path.relative_to(base)
        if path.suffix == ".safetensors" or path.name == CARD_NAME or relative.parts[0] == ADAPTER_FOLDER:
            continue
        (folder / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / relative)


def linear_layers(model: nn.Module) -> list[str]:
    """Names of the linear layers of the language model, which LoRA takes unless the spec names others."""
    decoder = language_model(model)
    inside = {id(module) for module in decoder.modules() if isinstance(module, nn.Linear)}
    return [name for name, module in model.named_modules() if id(module) in inside]
