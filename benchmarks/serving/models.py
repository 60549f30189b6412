"""The models that are measured."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoProcessor

from demo.training.architecture import Size, build_model

DEMO_STUDENT = Path("demo/models/student")
LARGE = Size(448, 6, 7, 1792, 512, 8, 8, 1536)
"""About 40M parameters; like the demo's student an Idefics3 that reads 96 × 96 pixels as 64 tokens."""


def model_folder(size: str, folder: Path) -> Path:
    """The folder of the ``1m`` model (the demo's trained student) or the ``40m`` one (random weights, made here)."""
    if size == "1m":
        return DEMO_STUDENT
    if not (folder / "config.json").exists():
        processor = AutoProcessor.from_pretrained(DEMO_STUDENT)
        build_model(LARGE, processor, seed=0).to(torch.bfloat16).save_pretrained(folder)
        processor.save_pretrained(folder)
    return folder
