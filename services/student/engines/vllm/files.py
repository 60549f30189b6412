"""What a checkpoint's files must be so that a running vLLM can take its weights; no vLLM needed to find out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from shared.checkpoints.files import weight_files
from shared.errors import BadCheckpoint

KEPT_AT_START = (
    "config.json", "generation_config.json", "tokenizer*", "vocab*", "merges*", "added_tokens*", "special_tokens*",
    "*.model", "*.tiktoken", "*.jinja", "chat_template*", "additional_chat_templates/*", "*processor*.json",
)  # fmt: skip
"""Patterns of the files that vLLM reads when it starts, and never again."""
IGNORED_KEYS = ("_name_or_path", "dtype", "torch_dtype", "transformers_version", "_commit_hash")


def read_start(folder: Path) -> dict[str, str]:
    """Name → digest of the files that vLLM reads when it starts on ``folder``."""
    paths = {path for pattern in KEPT_AT_START for path in folder.glob(pattern) if path.is_file()}
    return {path.relative_to(folder).as_posix(): _digest(path) for path in sorted(paths)}


def check_same_start(started_with: Mapping[str, str], folder: Path) -> None:
    """Raises BadCheckpoint unless ``folder`` has the configuration, tokenizer, templates and processors of
    ``started_with``.

    vLLM would serve the new weights with the old ones of these: wrong answers, and no error.
    """
    found = read_start(folder)
    for name in sorted(started_with.keys() | found.keys()):
        if started_with.get(name) != found.get(name):
            how = "is missing" if name not in found else "is new" if name not in started_with else "differs"
            raise BadCheckpoint(
                f"{folder} cannot be swapped into a running vLLM: its {name} is not that of the serving checkpoint (it "
                f"{how}), and vLLM keeps what it started with. Start a student service with this checkpoint as "
                "MPA_STUDENT_MODEL, or serve it with MPA_STUDENT_ENGINE=transformers."
            )


def check_finite(folder: Path) -> None:
    """Raises BadCheckpoint naming the weight that holds NaN or infinite values."""
    for path in weight_files(folder):
        with safe_open(path, "pt") as weights:
            for name in weights.keys():  # noqa: SIM118  # not a dict
                tensor = weights.get_tensor(name)
                if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                    raise BadCheckpoint(f"{folder}: the weight {name} holds NaN or infinite values. Train it again.")


def end_ids(folder: Path, default: int) -> tuple[int, ...]:
    """Tokens that end an answer: those of the generation config, else the tokenizer's."""
    path = folder / "generation_config.json"
    found = json.loads(path.read_text()).get("eos_token_id") if path.exists() else None
    found = default if found is None else found
    return tuple(int(token) for token in found) if isinstance(found, list) else (int(found),)


def _digest(path: Path) -> str:
    """Of what a JSON file says: written anew by another release, the same may look different."""
    content = path.read_bytes()
    if path.suffix == ".json":
        with suppress(ValueError):
            content = json.dumps(_essence(json.loads(content)), sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()


def _essence(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _essence(inner) for key, inner in value.items() if key not in IGNORED_KEYS}
    return [_essence(inner) for inner in value] if isinstance(value, list) else value
