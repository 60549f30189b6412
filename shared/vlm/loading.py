"""Load a vision-language model and its processor from a folder or a hub id."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
)
from transformers.utils import logging as transformers_logging

from shared.checkpoints.adapters import ADAPTER_CONFIG, MERGE_ADAPTER
from shared.checkpoints.code import named_code
from shared.errors import BadCheckpoint, InvalidInput, NotFound
from shared.literal import escapes_of
from shared.store.trouble import disk_trouble
from shared.vlm.processors import image_processor_of

_NOT_THE_PROCESSORS = ("config.json", "generation_config.json", "model.safetensors.index.json", "mpa_card.json")
_PATTERNS = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "*.tiktoken", "*.spm", "*.bpe", "*.py"]
_OTHER_WEIGHTS = ["*/*.safetensors", "consolidated*.safetensors"]
# from_pretrained changes the default dtype and patches torch while it runs, for the whole process.
_ONE_LOAD_AT_A_TIME = threading.Lock()
_MODEL_CLASSES: tuple[Any, ...] = (
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoModelForCausalLM,
    AutoModel,
)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode with its processor. ``name`` is the folder or hub id it came from.

    ``processor_digest`` is that of the processor's files, empty if it came from a hub.
    """

    model: Any
    processor: Any
    device: torch.device
    name: str
    processor_digest: str = ""

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
    """``auto`` is CUDA if it is available, else CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def local_folder(model: str) -> Path:
    """The folder of a model: itself, or the snapshot of a hub id (downloaded if that is allowed)."""
    if Path(model).is_dir():
        return Path(model)
    try:
        return Path(snapshot_download(model, allow_patterns=_PATTERNS, ignore_patterns=_OTHER_WEIGHTS))
    except Exception as error:  # the hub client raises a dozen types, all meaning: unavailable
        raise NotFound(f"{model!r} is neither a folder here nor a model that the hub provides: {error}.") from error


def load_model(
    path: str | Path,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    trust_remote_code: bool = False,
    like: LoadedModel | None = None,
) -> LoadedModel:
    """Load weights (safetensors only) and processor; raises BadCheckpoint if the folder does not hold a loadable
    model. The processor of ``like`` is shared, if its files are the same.
    """
    if dtype not in DTYPES:
        raise InvalidInput(f"{dtype!r} is not a dtype: use one of {', '.join(DTYPES)}.")
    digest = processor_digest(Path(path))
    _log_as_we_do()
    with _ONE_LOAD_AT_A_TIME:
        if like is not None and digest and like.processor_digest == digest:
            processor = like.processor
        else:
            processor = load_processor(path, trust_remote_code=trust_remote_code)
        with _damage_named(path, trusted=trust_remote_code):
            model, loading = _model_class(path, trusted=trust_remote_code).from_pretrained(
                str(path),
                dtype=DTYPES[dtype],
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
                output_loading_info=True,
            )
    _refuse_random(path, loading["missing_keys"])
    target = pick_device(device)
    model.requires_grad_(False)
    torch.nn.Module.to(model, target)
    if target.type == "cpu":
        _take_into_memory(model)
    model.train(False)
    return LoadedModel(model, processor, target, str(path), digest)


def _refuse_random(path: str | Path, missing: Collection[str]) -> None:
    """The library gives weights that a checkpoint lacks random values, and only logs that."""
    if missing:
        first = min(missing)
        raise BadCheckpoint(
            f"{path} does not store {first!r}, which its model has: it would start with random values. Take a folder "
            "that is complete. If it holds an adapter that was not merged, merge it (merge_and_unload) and save it."
        )


def load_processor(path: str | Path, *, trust_remote_code: bool = False) -> Any:
    """The processor in a model's folder, which pads on the left and reads escapes; raises BadCheckpoint."""
    _log_as_we_do()
    with _damage_named(path, trusted=trust_remote_code):
        processor = image_processor_of(path, trust_remote_code=trust_remote_code)
    processor.tokenizer.padding_side = "left"
    if processor.tokenizer.pad_token_id is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    escapes_of(processor.tokenizer)
    return processor


def _log_as_we_do() -> None:
    """Send the messages of transformers to this process's log, without progress bars."""
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.disable_default_handler()
    transformers_logging.enable_propagation()


def _model_class(path: str | Path, *, trusted: bool) -> Any:
    """The library's class that finds the model's own; a model with code of its own may be made for another such class.

    Only if the operator trusts that code: nothing else of it is read here.
    """
    if not trusted:
        return AutoModelForImageTextToText
    named = AutoConfig.from_pretrained(str(path), trust_remote_code=True)
    entries = getattr(named, "auto_map", None) or {}
    if type(named) in AutoModelForImageTextToText._model_mapping:
        return AutoModelForImageTextToText
    return next((kind for kind in _MODEL_CLASSES if kind.__name__ in entries), AutoModelForImageTextToText)


@contextmanager
def _damage_named(path: str | Path, *, trusted: bool) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # transformers raises anything, from OSError to KeyError, on damaged folders
        trouble = disk_trouble(error)
        if trouble is not None:
            raise trouble from error
        words = " ".join(str(error).split())[:500]
        code = named_code(Path(path))
        elsewhere = next((entry for entry in code if "--" in entry), None)
        copy = f"Its code is in another repository ({elsewhere}): copy it into the folder and name it there."
        if code and not trusted:
            raise BadCheckpoint(
                f"{path} needs code that comes with the model ({code[0]}), which is not run: use a model that the "
                "library knows, or read the code and set MPA_TRUST_REMOTE_CODE=true for the student, the trainer and "
                f"the teacher. {f'{copy} ' if elsewhere else ''}The library says: {type(error).__name__}: {words}"
            ) from error
        what_to_do = copy if elsewhere else "Check that the folder is complete and made by save_pretrained."
        if (Path(path) / ADAPTER_CONFIG).is_file():
            what_to_do = MERGE_ADAPTER
        raise BadCheckpoint(
            f"{path} does not load as a vision-language model ({type(error).__name__}: {words}). {what_to_do}"
        ) from error


def processor_digest(folder: Path) -> str:
    """sha256 of all that a folder holds besides weights and the model's own configuration; empty for a hub id."""
    if not folder.is_dir():
        return ""
    names = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".safetensors")
    digest = hashlib.sha256()
    for path in (p for p in names if p.name not in _NOT_THE_PROCESSORS):
        digest.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _take_into_memory(model: Any) -> None:
    """Copy weights that are still mapped from their file, one tensor at a time.

    A mapped file that is truncated or written over kills the process (SIGBUS) or changes its answers.
    """
    for tensor in [*model.parameters(), *model.buffers()]:
        tensor.data = tensor.data.clone()
