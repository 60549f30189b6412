"""Whether a checkpoint's weights are quantised: such weights can be served, but not trained and saved as they were."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from shared.checkpoints.weights import MAX_HEADER, read_tensor_table

CONFIG = "config.json"
_KEYS = ("quantization_config", "compression_config")
_FILES = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
_PACKED = (".qweight", ".qzeros", ".weight_packed", ".weight_scale", ".weight_scale_inv", ".absmax", ".quant_map")
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})


def quantisation_of(folder: Path) -> str | None:
    """How the weights in ``folder`` are quantised; None if they are not. Raises BadCheckpoint for damaged weights."""
    config = folder / CONFIG
    found = configured(config.read_bytes()) if config.is_file() else None
    if found is not None:
        return found
    dtypes = {name: info.dtype for name, info in read_tensor_table(folder).items()}
    return packed(dtypes, {path.name for path in folder.glob("*.json")})


def configured(config: bytes) -> str | None:
    """The method that the text of a config.json names."""
    try:
        return _method(json.loads(config))
    except ValueError:
        return None


def packed(dtypes: Mapping[str, str], files: Collection[str]) -> str | None:
    """What tells that tensors are quantised: their names or dtypes. ``files``: what else is in the folder."""
    names = sorted(name for name in dtypes if name.endswith(_PACKED))
    if names:
        return f"{next((name for name in _FILES if name in files), 'packed weights')}, {names[0]}"
    others = {dtype for name, dtype in dtypes.items() if name.endswith(".weight")} - _FLOATS
    return f"weights of dtype {', '.join(sorted(others))}" if others else None


def read_dtypes(file: BinaryIO) -> dict[str, str]:
    """Names → dtypes of a safetensors file, of which only the header is read. Empty for a file that is damaged."""
    length = int.from_bytes(file.read(8), "little")
    try:
        header = json.loads(file.read(length)) if length <= MAX_HEADER else {}
        return {name: str(entry["dtype"]) for name, entry in header.items() if name != "__metadata__"}
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}


def words_for(what: str, method: str) -> str:
    """What to tell a user about ``what``, whose weights are quantised."""
    return (
        f"{what} is quantised ({method}), and quantised weights cannot be trained: give MPA_STUDENT_MODEL the folder "
        "of the same model in float32, float16 or bfloat16."
    )


def _method(config: Any) -> str | None:
    if not isinstance(config, dict):
        return None
    for key in _KEYS:
        if config.get(key):
            named = config[key].get("quant_method") if isinstance(config[key], dict) else None
            return f"{key}: {named}" if named else key
    nested = (_method(value) for key, value in config.items() if key.endswith("_config"))
    return next((found for found in nested if found is not None), None)
