"""Tiny random models of the real class, in seconds: the demo's processor with fresh weights."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoProcessor

from demo.training.architecture import Size, build_model

DEMO_STUDENT = Path(__file__).parent.parent / "demo" / "models" / "student"
TINY = Size(64, 1, 1, 128, 64, 1, 1, 128)


def build_tiny_idefics3(folder: Path, seed: int = 0, size: Size = TINY) -> Path:
    """Save a random Idefics3 with processor to ``folder``; the same weights for the same seed and size."""
    processor = AutoProcessor.from_pretrained(DEMO_STUDENT)
    model = build_model(size, processor, seed)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
