"""The students that are trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoProcessor, Idefics3ForConditionalGeneration

from benchmarks.serving.models import DEMO_STUDENT, SMOL_SHUFFLE, SMOL_SIDE
from demo.training.architecture import Size, build_model

SIZES = ("demo", "40m")
LARGE = Size(384, 6, 6, 1536, 512, 8, 8, 1536)
_PROCESSOR: Any = AutoProcessor  # untyped
_MODEL: Any = Idefics3ForConditionalGeneration


def student_folder(size: str, folder: Path, seed: int = 0) -> Path:
    """The folder of a student, made in ``folder`` if it has random weights.

    ``demo`` is the demo's trained student (2.3M parameters, 64 patches that become 64 tokens). ``40m`` has random
    weights and SmolVLM's proportions: 576 patches of an image become 64 tokens.
    """
    if size == "demo":
        return DEMO_STUDENT
    if not (folder / "config.json").exists():
        processor = _PROCESSOR.from_pretrained(DEMO_STUDENT)
        plain = build_model(LARGE, processor, seed)
        config = plain.config
        config.vision_config.image_size, config.scale_factor = SMOL_SIDE, SMOL_SHUFFLE
        for name in ("size", "max_image_size"):
            setattr(processor.image_processor, name, {"longest_edge": SMOL_SIDE})
        torch.manual_seed(seed)
        model = _MODEL(config)
        model.generation_config = plain.generation_config
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    return folder
