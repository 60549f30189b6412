"""Checks whether a running vLLM can take a checkpoint's weights. The check needs only the files, not vLLM."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from services.student.engines.checkpoint import essence
from shared.errors import BadCheckpoint

KEPT_AT_START = (
    "config.json", "generation_config.json", "tokenizer*", "vocab*", "merges*", "added_tokens*", "special_tokens*",
    "*.model", "*.tiktoken", "*.jinja", "chat_template*", "additional_chat_templates/*", "*processor*.json",
)  # fmt: skip
"""Patterns of the files that vLLM reads when it starts, and never again."""


def read_start(folder: Path) -> dict[str, str]:
    """Name → digest of the files that vLLM reads when it starts on ``folder``."""
    paths = {path for pattern in KEPT_AT_START for path in folder.glob(pattern) if path.is_file()}
    return {path.relative_to(folder).as_posix(): _digest(path) for path in sorted(paths)}


def check_same_start(started_with: Mapping[str, str], folder: Path) -> None:
    """Raises BadCheckpoint unless ``folder`` has the configuration, tokenizer, templates and processors of
    ``started_with``.

    vLLM would serve the new weights with the old files: wrong answers, and no error.
    """
    found = read_start(folder)
    for name in sorted(started_with.keys() | found.keys()):
        if started_with.get(name) != found.get(name):
            how = "is missing" if name not in found else "is new" if name not in started_with else "differs"
            raise BadCheckpoint(
                f"{folder} cannot be swapped into a running vLLM: its {name} is not the serving checkpoint's (it "
                f"{how}), and vLLM keeps what it started with. Start a student service with this checkpoint as "
                "MPA_STUDENT_MODEL, or serve it with MPA_STUDENT_ENGINE=transformers."
            )


def end_ids(folder: Path, default: int) -> tuple[int, ...]:
    """The tokens that end an answer: those of the generation config, or else the tokenizer's."""
    path = folder / "generation_config.json"
    found = json.loads(path.read_text()).get("eos_token_id") if path.exists() else None
    found = default if found is None else found
    return tuple(int(token) for token in found) if isinstance(found, list) else (int(found),)


def _digest(path: Path) -> str:
    """A JSON file's digest is that of its content: another release may write the same content in another form."""
    content = path.read_bytes()
    if path.suffix == ".json":
        with suppress(ValueError):
            content = json.dumps(essence(json.loads(content)), sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()
