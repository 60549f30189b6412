"""``python -m services.trainer.estimate``: whether a job's training should fit a GPU. See memory.py for the formulas.

    python -m services.trainer.estimate --model-config qwen2-vl-2b --spec presets/gpt-4o-to-qwen2-vl-2b.24gb.yaml \
        --gpu 24GB

This is an estimate: nothing is loaded or run. Exit code 0: it fits, 1: it does not, 2: bad input.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ByteSize, TypeAdapter, ValidationError

from services.trainer.estimate.architecture import Architecture, read_architecture
from services.trainer.estimate.memory import Load, Memory, estimate
from shared.contracts import JobSpec
from shared.errors import InvalidInput
from shared.settings import TrainerSettings

GB = 1e9
_PLACEHOLDER = {"kind": "folder", "path": "."}


@dataclass(frozen=True)
class Answer:
    """What is printed: sizes in bytes."""

    model: str
    parameters: int
    tokens: int
    memory: Memory
    gpu: int

    @property
    def fits(self) -> bool:
        return self.memory.peak <= self.gpu


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        answer = answer_of(options)
    except InvalidInput as error:
        print(f"error: {error.detail}", file=sys.stderr)
        return 2
    print(_as_json(answer) if options.json else table(answer, options.images))
    return 0 if answer.fits else 1


def answer_of(options: argparse.Namespace) -> Answer:
    """Raises InvalidInput."""
    spec = read_job(options.spec)
    model = read_architecture(options.model_config, _size(options.image_size), options.pictures)
    load = Load(
        question_tokens=options.question_tokens,
        answer_tokens=options.answer_tokens,
        checkpointing=spec.train.gradient_checkpointing,
        stored_in_bf16=not options.stored_in_float32,
    )
    memory = estimate(model, spec.train, load, options.eval_batch_size)
    return Answer(model.name, model.parameters, _tokens(model, load), memory, _bytes(options.gpu))


def read_job(path: Path) -> JobSpec:
    """A job's spec, whose images may be missing; raises InvalidInput."""
    try:
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        return JobSpec.model_validate({"images": _PLACEHOLDER, **data})
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}. Give the path of a job spec.") from error
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, ValidationError) as error:
        raise InvalidInput(f"{path} is not a job spec: {' '.join(str(error).split())[:500]}") from error


def table(answer: Answer, images: int | None = None) -> str:
    memory = answer.memory
    lines = [
        f"{answer.model}: {answer.parameters / 1e6:,.0f} M parameters, {answer.tokens} tokens a row. Estimates, in GB:"
    ]
    for name in ("weights", "copies", "gradients", "optimiser", "activations", "logits", "step"):
        lines.append(f"  {name:<12}{getattr(memory, name) / GB:8.2f}")
    lines.append(f"  {'training':<12}{memory.training / GB:8.2f}  with overhead; logits and activations, or the step")
    lines.append(f"  {'evaluation':<12}{memory.evaluation / GB:8.2f}  afterwards, without overhead")
    lines.append(
        f"  {'peak':<12}{memory.peak / GB:8.2f}  of {answer.gpu / GB:.0f}: {'fits' if answer.fits else 'TOO MUCH'}"
    )
    if images:
        cached = memory.cached_per_image * images / GB
        lines.append(f"  frozen features of {images} images: {cached:.1f} of the computer's memory (MPA_TRAIN_CACHE)")
    return "\n".join(lines)


def _as_json(answer: Answer) -> str:
    derived = {"training": answer.memory.training, "peak": answer.memory.peak, "fits": answer.fits}
    return json.dumps({**asdict(answer), **derived}, indent=2)


def _tokens(model: Architecture, load: Load) -> int:
    return model.pictures * model.tokens + load.question_tokens + load.answer_tokens


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise InvalidInput(f"--image-size {text} is not WIDTHxHEIGHT in pixels, such as 1024x768.")
    return int(width), int(height)


def _bytes(text: str) -> int:
    try:
        return int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError as error:
        raise InvalidInput(f"--gpu {text} is not a size such as 24GB or 80GB.") from error


def _parser() -> argparse.ArgumentParser:
    usual = Load()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model-config", required=True, help="the student: a folder, its config.json, or a name in presets/models"
    )
    parser.add_argument("--spec", type=Path, required=True, help="job spec, YAML or JSON")
    parser.add_argument("--gpu", default="24GB", help="memory of the GPU (default %(default)s)")
    parser.add_argument("--image-size", default="1024x768", help="for models that read images as they are")
    parser.add_argument("--pictures", type=int, help="squares that one image is cut into, the whole view included")
    parser.add_argument("--question-tokens", type=int, default=usual.question_tokens)
    parser.add_argument("--answer-tokens", type=int, default=usual.answer_tokens)
    parser.add_argument("--eval-batch-size", type=int, default=TrainerSettings().eval_batch_size)
    parser.add_argument("--images", type=int, help="of the set, for the size of cached features")
    parser.add_argument("--stored-in-float32", action="store_true", help="the base's files are not bfloat16")
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
