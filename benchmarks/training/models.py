"""The students that are trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoProcessor

from benchmarks.serving.models import DEMO_STUDENT, with_smol_proportions
from demo.training.architecture import Size

SIZES = ("demo", "40m")
LARGE = Size(384, 6, 6, 1536, 512, 8, 8, 1536)
_PROCESSOR: Any = AutoProcessor  # untyped


def student_folder(size: str, folder: Path, seed: int = 0) -> Path:
    """The folder of a student, made in ``folder`` if it has random weights.

    ``demo`` is the demo's trained student (2.3M parameters, 64 patches that become 64 tokens). ``40m`` has random
    weights and SmolVLM's proportions: 576 patches of an image become 64 tokens.
    """
    if size == "demo":
        return DEMO_STUDENT
    if not (folder / "config.json").exists():
        processor = _PROCESSOR.from_pretrained(DEMO_STUDENT)
        model = with_smol_proportions(LARGE, processor, seed)
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    return folder
