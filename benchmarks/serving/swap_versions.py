"""Checkpoints to swap between: the model and perturbed copies of it, each with a smoke answer of its own."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from benchmarks.serving.workload import questions
from shared.checkpoints import BASE_VERSION, SMOKE_TOKENS, CheckpointRegistry, build_card
from shared.contracts import SmokeAnswer
from shared.images import ImageLimits, decode_image
from shared.store import Store
from shared.vlm.generation import generate
from shared.vlm.loading import load_model
from shared.vlm.prompting import question_prompt
from shared.vlm.sampling import Sampling

NOISE = 0.5
"""Standard deviation of the noise on each matrix, in units of its own: most answers change, and need not make sense."""


def publish_versions(data_dir: Path, model: Path, copies: int = 2) -> list[str]:
    """Register ``model`` as the base and publish ``copies`` of it, perturbed; returns all versions."""
    registry = CheckpointRegistry(Store((data_dir.absolute() / "store").as_uri()), "student")
    versions = [registry.register_base(model)]
    for number in range(1, copies + 1):
        folder = _perturbed(model, data_dir / f"perturbed-{number}", seed=number)
        version = f"perturbed-{number}"
        card = build_card(folder, version=version, student="student", base=BASE_VERSION, smoke=smoke_of(folder))
        registry.publish(folder, card)
        versions.append(version)
    return versions


def _perturbed(model: Path, folder: Path, seed: int) -> Path:
    shutil.copytree(model, folder)
    generator = torch.Generator().manual_seed(seed)
    for path in folder.glob("*.safetensors"):
        tensors = load_file(path)
        for name, tensor in tensors.items():
            if tensor.ndim > 1 and tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=generator) * tensor.float().std() * NOISE
                tensors[name] = (tensor.float() + noise).to(tensor.dtype)
        save_file(tensors, path, metadata={"format": "pt"})
    return folder


def smoke_of(folder: Path) -> SmokeAnswer:
    """What the trainer records for a card: a greedy answer in float32."""
    asked = questions(1)[0]
    loaded = load_model(folder)
    prompt = question_prompt(loaded, decode_image(asked.png, ImageLimits()), asked.question)
    answer = generate(loaded, [prompt], [Sampling(max_tokens=SMOKE_TOKENS)])[0].text.strip()
    return SmokeAnswer(question=asked.question, answer=answer, image_png_base64=base64.b64encode(asked.png).decode())
