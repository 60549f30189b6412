"""A small checkpoint folder with real weights, and how it is published."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from shared.checkpoints import CheckpointRegistry, build_card
from shared.contracts import CheckpointCard


def safetensors_bytes(tensors: dict[str, list[int]], fill: int = 0) -> bytes:
    """A valid F32 safetensors file, built by the published format, not by the library."""
    header, offset = {}, 0
    for name, shape in tensors.items():
        size = 4
        for n in shape:
            size *= n
        header[name] = {
            "dtype": "F32",
            "shape": shape,
            "data_offsets": [offset, offset + size],
        }
        offset += size
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes([fill]) * offset


def model_folder(folder: Path, fill: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "idefics3"}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(safetensors_bytes({"a.weight": [2, 3], "b": [4]}, fill))
    return folder


def publish(registry: CheckpointRegistry, tmp_path: Path, version: str, fill: int) -> CheckpointCard:
    folder = model_folder(tmp_path / f"made-{version}", fill)
    card = build_card(folder, version=version, student="student", base="base")
    registry.publish(folder, card)
    return card
