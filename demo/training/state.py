"""Training state on disk (safetensors and JSON, never pickle), so that a killed run continues where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from shared.files import write_file


def save_state(folder: Path, phase: str, step: int, tensors: dict[str, Tensor]) -> None:
    """Replace the state of ``folder`` atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{phase}-{step}.safetensors"
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / name)
    write_file(folder / "state.json", json.dumps({"phase": phase, "step": step, "file": name}).encode())
    for old in folder.glob("*.safetensors"):
        if old.name != name:
            old.unlink()


def load_state(folder: Path) -> tuple[str, int, dict[str, Tensor]] | None:
    """Phase, steps done in it and tensors; None if there is no state."""
    pointer = folder / "state.json"
    if not pointer.exists():
        return None
    state = json.loads(pointer.read_text())
    return state["phase"], state["step"], load_file(folder / state["file"])
