"""The models that are measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoProcessor, Idefics3ForConditionalGeneration

from demo.training.architecture import Size, build_model

DEMO_STUDENT = Path("demo/models/student")
LARGE = Size(448, 6, 7, 1792, 512, 8, 8, 1536)
SMOL = Size(192, 6, 3, 768, 192, 6, 3, 512)
SMOL_SIDE, SMOL_SHUFFLE = 288, 3
SIZES = ("1m", "40m", "smol")
_PROCESSOR: Any = AutoProcessor  # untyped
_MODEL: Any = Idefics3ForConditionalGeneration


def model_folder(size: str, folder: Path, seed: int = 0, dtype: torch.dtype = torch.bfloat16) -> Path:
    """The folder of a model to measure, made in ``folder`` if it has random weights, stored in ``dtype``.

    ``1m`` is the demo's trained student. ``40m`` has its shape and 43M parameters. ``smol`` has SmolVLM's proportions:
    576 patches of an image become 64 tokens, so that most work is the vision tower's, as in models of real use.
    """
    if size == "1m":
        return DEMO_STUDENT
    if not (folder / "config.json").exists():
        processor = _PROCESSOR.from_pretrained(DEMO_STUDENT)
        model = with_smol_proportions(SMOL, processor, seed) if size == "smol" else build_model(LARGE, processor, seed)
        model.to(dtype).save_pretrained(folder)
        processor.save_pretrained(folder)
    return folder


def with_smol_proportions(size: Size, processor: Any, seed: int) -> Any:
    """A random model that makes 64 tokens of 576 patches; the processor is told of its images' side."""
    plain = build_model(size, processor, seed)
    config = plain.config
    config.vision_config.image_size, config.scale_factor = SMOL_SIDE, SMOL_SHUFFLE
    for name in ("size", "max_image_size"):
        setattr(processor.image_processor, name, {"longest_edge": SMOL_SIDE})
    torch.manual_seed(seed)
    model = _MODEL(config)
    model.generation_config = plain.generation_config
    return model
