"""Code that comes with a model: where its configuration names it, and its files. Nothing here runs it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_NAMING = (
    "config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "image_processor_config.json",
    "video_preprocessor_config.json",
    "tokenizer_config.json",
)


def named_code(folder: Path) -> list[str]:
    """The entries of every ``auto_map`` in ``folder``, such as ``config.json: modeling_my.MyModel``, in order."""
    found = []
    for name in _NAMING:
        found += [f"{name}: {entry}" for entry in dict.fromkeys(_entries(_read(folder / name)))]
    return found


def code_files(folder: Path) -> list[Path]:
    """The Python files of a model that names code of its own, sorted; none if it names no code.

    All of them, since code may import other files in any way.
    """
    if not named_code(folder):
        return []
    found = (path for path in folder.rglob("*.py") if path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _entries(config: Any) -> Iterator[str]:
    """Also those of nested configurations: a processor's file may hold its image processor's."""
    if not isinstance(config, dict):
        return
    for key, value in config.items():
        if key == "auto_map":
            yield from _strings(value)
        else:
            yield from _entries(value)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
