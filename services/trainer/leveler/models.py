"""The student as a trainable model: full or LoRA, and back to a plain folder that looks exactly like its base."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from services.trainer.leveler.adapter import save_adapter
from shared.checkpoints import (
    CARD_NAME,
    TensorInfo,
    checkpoint_files,
    describe_difference,
    read_tensor_table,
    verify_loadable,
)
from shared.checkpoints.adapters import ADAPTER_FOLDER
from shared.contracts import LoraSpec, TrainSpec
from shared.errors import BadCheckpoint, InvalidInput

logger = logging.getLogger(__name__)

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_INDEX = "model.safetensors.index.json"


def training_dtype(base: Path, spec: TrainSpec) -> str:
    """Weights that the optimiser changes are float32. Those that LoRA leaves alone stay in bfloat16 if they are stored
    and computed with in bfloat16: that takes half the memory and loses nothing.
    """
    stored = {info.dtype for info in read_tensor_table(base).values()}
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
    torch.manual_seed(seed)
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise InvalidInput(f"train.lora.target_modules {targets} cannot be used: {error}") from error


def save_candidate(model: Any, base: Path, folder: Path) -> None:
    """Write ``model`` (adapters merged) to ``folder`` with the base's config and processor files, tensor by tensor
    in its dtypes; adapters also as they are, next to it.

    Raises BadCheckpoint if the result would not have the base's tensor names, shapes and dtypes.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _copy_all_but_weights(base, folder)
    if isinstance(model, PeftModel):
        save_adapter(model, folder)
    merged = model.merge_and_unload() if isinstance(model, PeftModel) else model
    expected = read_tensor_table(base)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".tmp-weights-") as scratch:
        merged.save_pretrained(scratch, safe_serialization=True)
        _cast_weights(Path(scratch), folder, expected, _named_tensors(merged))
    difference = describe_difference(expected, verify_loadable(folder))
    if difference:
        raise BadCheckpoint(f"The trained checkpoint does not match its base {base}: {difference}.")


def _cast_weights(source: Path, target: Path, expected: dict[str, TensorInfo], named: dict[str, Tensor]) -> None:
    found = read_tensor_table(source)
    shards = sorted(source.glob("*.safetensors"))
    # A base may store a tied tensor that save_pretrained leaves out.
    lacking = {name: named[name] for name in expected.keys() - found.keys() if name in named}
    for shard in shards:
        tensors = load_file(shard)
        if shard == shards[0]:
            tensors |= {name: tensor.detach().cpu().clone() for name, tensor in lacking.items()}
        cast = {name: _as_stored(tensor, expected.get(name)) for name, tensor in tensors.items()}
        save_file(cast, target / shard.name, metadata={"format": "pt"})
    if (source / _INDEX).exists():
        index = json.loads((source / _INDEX).read_text())
        index["weight_map"] |= dict.fromkeys(lacking, shards[0].name)
        (target / _INDEX).write_text(json.dumps(index, indent=2, sort_keys=True))


def _as_stored(tensor: Tensor, info: TensorInfo | None) -> Tensor:
    dtype = _DTYPES.get(info.dtype, tensor.dtype) if info else tensor.dtype
    return tensor.to(dtype).contiguous()


def _copy_all_but_weights(base: Path, folder: Path) -> None:
    for path in checkpoint_files(base):
        relative = path.relative_to(base)
        if path.suffix == ".safetensors" or path.name in (_INDEX, CARD_NAME) or relative.parts[0] == ADAPTER_FOLDER:
            continue
        (folder / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / relative)


def _named_tensors(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.state_dict())


def linear_layers(model: nn.Module) -> list[str]:
    """Names of the linear layers of the language model, which LoRA takes unless the spec names others."""
    decoder = language_model(model)
    inside = {id(module) for module in decoder.modules() if isinstance(module, nn.Linear)}
    return [name for name, module in model.named_modules() if id(module) in inside]
