"""The processor of a model for what MPA reads: text and still images.

Most families' processors read videos too. That part needs torchvision (and SmolVLM's num2words), which a machine
without a GPU often lacks; the library then refuses to load the whole processor. So the video part is left out here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import AutoProcessor, Idefics3Processor
from transformers.models.auto import processing_auto
from transformers.utils.hub import cached_file

_AUTO_PROCESSOR: Any = AutoProcessor  # untyped
_LIBRARY: Any = processing_auto  # untyped; some names used here are not exported
_FILES = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
# Idefics3's processor treats images just as theirs does: the families share prompt format and tiles.
_STILL_IMAGE_TWINS: dict[str, Any] = {"SmolVLMProcessor": Idefics3Processor}


def image_processor_of(path: str | Path, *, trust_remote_code: bool = False) -> Any:
    """The processor in a folder or a hub's repository, without its video part; raises what the library raises."""
    known = _processor_class(str(path))
    if known is None:
        return _AUTO_PROCESSOR.from_pretrained(str(path), trust_remote_code=trust_remote_code)
    # Its parts may name code of their own. Unless the answer is given here, the library asks on the terminal.
    return without_videos(known).from_pretrained(str(path), trust_remote_code=trust_remote_code)


def without_videos(kind: Any) -> Any:
    """``kind`` without its video part, if it has one. What it saves and how it treats images are unchanged."""
    kind = _STILL_IMAGE_TWINS.get(kind.__name__, kind)
    if "video_processor" not in kind.get_attributes():
        return kind
    parts = [name for name in kind.get_attributes() if name != "video_processor"]
    return type(kind.__name__, (kind,), {"get_attributes": classmethod(lambda _: list(parts))})


def _processor_class(path: str) -> Any | None:
    """The library's class for the processor; None if the folder names none that the library has."""
    named = next(filter(None, (_read(path, name).get("processor_class") for name in _FILES)), None)
    if named is None:
        named = _LIBRARY.PROCESSOR_MAPPING_NAMES.get(_read(path, "config.json").get("model_type"))
    return _LIBRARY.processor_class_from_name(named) if named else None


def _read(path: str, name: str) -> dict[str, Any]:
    found = cached_file(
        path,
        name,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    content = json.loads(Path(found).read_text()) if found else {}
    return content if isinstance(content, dict) else {}
