"""Load a vision-language model and its processor from a folder or a hub id."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from transformers import AutoModelForImageTextToText, AutoProcessor

from shared.errors import BadCheckpoint, InvalidInput, NotFound

_AUTO_PROCESSOR: Any = AutoProcessor  # untyped
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode with its processor. ``name`` is the folder or hub id it came from."""

    model: Any
    processor: Any
    device: torch.device
    name: str

    @property
    def tokenizer(self) -> Any:
        return self.processor.tokenizer

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Tokens that end an answer."""
        found = self.model.generation_config.eos_token_id
        found = self.tokenizer.eos_token_id if found is None else found
        return tuple(found) if isinstance(found, list) else (int(found),)

    @property
    def max_length(self) -> int:
        """Longest sequence in tokens, prompt and answer together."""
        config = self.model.config.get_text_config()
        return int(getattr(config, "max_position_embeddings", 1 << 30))


def pick_device(device: str) -> torch.device:
    """``auto`` is CUDA where there is one, else CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def local_folder(model: str) -> Path:
    """The folder of a model: itself, or the snapshot of a hub id (downloaded if the machine may)."""
    if Path(model).is_dir():
        return Path(model)
    try:
        return Path(snapshot_download(model, allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]))
    except Exception as error:  # the hub client raises a dozen types, all meaning: not to be had
        raise NotFound(f"{model!r} is neither a folder here nor a model that the hub gives: {error}.") from error


def load_model(
    path: str | Path, *, dtype: str = "float32", device: str = "cpu", trust_remote_code: bool = False
) -> LoadedModel:
    """Load weights (safetensors only) and processor; raises BadCheckpoint if the folder does not hold a loadable
    model.
    """
    if dtype not in DTYPES:
        raise InvalidInput(f"{dtype!r} is no dtype: use one of {', '.join(DTYPES)}.")
    processor = load_processor(path, trust_remote_code=trust_remote_code)
    with _damage_named(path):
        model = AutoModelForImageTextToText.from_pretrained(
            str(path), dtype=DTYPES[dtype], use_safetensors=True, trust_remote_code=trust_remote_code
        )
    target = pick_device(device)
    model.requires_grad_(False)
    torch.nn.Module.to(model, target)
    model.train(False)
    return LoadedModel(model, processor, target, str(path))


def load_processor(path: str | Path, *, trust_remote_code: bool = False) -> Any:
    """The processor in a model's folder, which pads on the left; raises BadCheckpoint."""
    with _damage_named(path):
        processor = _AUTO_PROCESSOR.from_pretrained(str(path), trust_remote_code=trust_remote_code)
    processor.tokenizer.padding_side = "left"
    if processor.tokenizer.pad_token_id is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    return processor


@contextmanager
def _damage_named(path: str | Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # transformers raises anything, from OSError to KeyError, on damaged folders
        words = " ".join(str(error).split())[:500]
        raise BadCheckpoint(
            f"{path} does not load as a vision-language model ({type(error).__name__}: {words}). "
            "Check that the folder is complete and made by save_pretrained."
        ) from error
