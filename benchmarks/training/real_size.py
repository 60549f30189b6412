"""``python -m benchmarks.training.real_size``: our training loop at the shapes of real students, random weights.

Samples a second, peak memory and model FLOP utilisation (MFU): the operations that the model's formula needs, over
what the device could do in that time (``--peak-tflops``; 989 for an H100 in bfloat16 without sparsity). Batches are
made up, so that neither images nor tokenizers count. ``--shrink`` cuts the towers to show without a GPU that it runs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText, TrainerCallback

from benchmarks.serving.report import report
from services.trainer.data.dataset import Sample, TrainingSet
from services.trainer.data.sampler import PlanSampler
from services.trainer.estimate.architecture import KNOWN
from services.trainer.leveler import Leveler
from services.trainer.leveler.arguments import TrainFolders, TrainPlace, training_arguments
from services.trainer.leveler.callbacks.progress import peak_memory
from services.trainer.leveler.models import language_model
from services.trainer.losses import IGNORE
from shared.contracts import TrainSpec

MODELS = ("smolvlm-500m", "qwen2-vl-2b")
WARM_UP = 3
GRID = 32
_CONFIG: Any = AutoConfig  # untyped
_MODEL: Any = AutoModelForImageTextToText


@dataclass(frozen=True)
class Shape:
    """Of one sample, in tokens: ``text`` of prompt and answer together, ``answer`` of them learned; ``pictures``."""

    pictures: int
    text: int
    answer: int


def random_model(name: str, device: str, shrink: bool) -> Any:
    """``presets/models/<name>.json`` with fresh float32 weights, made on ``device``."""
    values = json.loads((KNOWN / f"{name}.json").read_text())
    values = {key: value for key, value in values.items() if not key.startswith("_")}
    if shrink:
        for tower, depth in (("vision_config", "num_hidden_layers"), ("text_config", "num_hidden_layers")):
            values[tower]["depth" if "depth" in values[tower] else depth] = 1
    torch.manual_seed(0)
    with torch.device(device):
        return _MODEL.from_config(_CONFIG.for_model(**values), dtype=torch.float32)


class MadeUp:
    """A collator whose samples are all of one shape: image tokens first, then text."""

    def __init__(self, model: Any, shape: Shape) -> None:
        self._config, self._shape = model.config, shape
        self._qwen = hasattr(self._config.vision_config, "spatial_merge_size")
        self.patches = GRID * GRID if self._qwen else self._squares() * shape.pictures
        self.image_tokens = self.patches // self._shrinks()
        self.length = self.image_tokens + shape.text

    def __call__(self, samples: Sequence[Sample]) -> dict[str, Any]:
        rows = len(samples)
        ids = torch.randint(10, 1000, (rows, self.length))
        ids[:, : self.image_tokens] = self._config.image_token_id
        labels = torch.full_like(ids, IGNORE)
        labels[:, -self._shape.answer :] = ids[:, -self._shape.answer :]
        batch: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
        batch |= self._pixels(rows, ids)
        zeros = torch.zeros(rows, dtype=torch.long)
        return batch | {
            "is_replay": zeros.bool(),
            "weights": torch.ones(rows),
            "kind": zeros,
            "sample": torch.arange(rows),
        }

    def _pixels(self, rows: int, ids: Tensor) -> dict[str, Tensor]:
        vision = self._config.vision_config
        if not self._qwen:
            side = vision.image_size
            return {"pixel_values": torch.rand(rows, self._shape.pictures, 3, side, side)}
        width = 3 * vision.temporal_patch_size * vision.patch_size**2
        return {
            "pixel_values": torch.rand(rows * self.patches, width),
            "image_grid_thw": torch.tensor([[1, GRID, GRID]] * rows),
            "mm_token_type_ids": (ids == self._config.image_token_id).int(),
        }

    def _squares(self) -> int:
        return int((self._config.vision_config.image_size // self._config.vision_config.patch_size) ** 2)

    def _shrinks(self) -> int:
        vision = self._config.vision_config
        return int(vision.spatial_merge_size**2 if self._qwen else self._config.scale_factor**2)


def operations(model: Any, made_up: MadeUp, shape: Shape) -> float:
    """Floating point operations of forward and backward for one sample: 6 a weight and token, and the attention's
    products. What checkpointing computes again does not count.
    """
    decoder, config = language_model(model), model.config.get_text_config()
    head = model.get_output_embeddings().weight.numel()
    inside = {id(p) for p in decoder.parameters()} | {id(model.get_output_embeddings().weight)}
    table = model.get_input_embeddings().weight.numel()
    text = sum(p.numel() for p in decoder.parameters()) - table
    vision = sum(p.numel() for p in model.parameters() if id(p) not in inside)
    attention = 12 * config.num_hidden_layers * config.hidden_size * made_up.length**2
    return 6.0 * (text * made_up.length + head * shape.answer + vision * made_up.patches) + attention


class StepClock(TrainerCallback):
    """When each step ended, in seconds."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.monotonic())


def measure(name: str, given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One model, one process, ``given.steps`` steps after the first WARM_UP."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = random_model(name, device, given.shrink)
    shape = Shape(given.pictures, given.text_tokens, given.answer_tokens)
    spec = TrainSpec(
        batch_size=given.batch_size,
        max_steps=WARM_UP + given.steps,
        learning_rate=1e-5,
        replay_fraction=0.0,
        precision="bf16",
        gradient_checkpointing=given.checkpointing,
        save_every_steps=10**6,
    )
    folders = TrainFolders(
        *(folder / part for part in ("base", "steps", "progress", "candidate", "features", "curves"))
    )
    data = TrainingSet(tuple(Sample(str(n), "x", None, "made-up", "q", "a") for n in range(64)), 64)
    made_up = MadeUp(model, shape)
    arguments = training_arguments(spec, folders, WARM_UP + given.steps, TrainPlace(device == "cpu", 0), seed=0)
    arguments.save_strategy = "no"  # type: ignore[assignment]
    trainer = Leveler(
        model=model,
        args=arguments,
        data=data,
        collator=made_up,  # type: ignore[arg-type]
        sampler=PlanSampler(data.plan(spec, 0), WARM_UP + given.steps),
    )
    clock = StepClock()
    trainer.add_callback(clock)
    trainer.train()
    rate = given.steps * given.batch_size / (clock.ends[-1] - clock.ends[WARM_UP - 1])
    needed = operations(model, made_up, shape)
    return {
        "model": name + (" (shrunk)" if given.shrink else ""),
        "device": torch.cuda.get_device_name() if device == "cuda" else "CPU",
        "M parameters": round(sum(p.numel() for p in model.parameters()) / 1e6),
        "tokens": made_up.length,
        "samples/s": rate,
        "TFLOP/s": rate * needed / 1e12,
        "MFU": round(rate * needed / given.peak_tflops / 1e12, 3) if given.peak_tflops else "-",
        "peak GiB": peak_memory() / 2**30,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--pictures", type=int, default=5, help="512 x 512 pictures an image is cut into (SmolVLM)")
    parser.add_argument("--text-tokens", type=int, default=64)
    parser.add_argument("--answer-tokens", type=int, default=8)
    parser.add_argument("--peak-tflops", type=float, default=0.0, help="of the device in bfloat16; 0: no MFU")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--shrink", action="store_true", help="one block a tower")
    given = parser.parse_args()
    rows = []
    for name in given.models:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(name, given, Path(folder)))
    report("training-real-size", rows, "MFU counts what the formula needs, not what checkpointing computes again")


if __name__ == "__main__":
    main()
