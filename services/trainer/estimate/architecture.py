"""The sizes that a training's memory depends on, read from the model's real class, which is built without weights."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText

from services.trainer.leveler.models import language_model, linear_layers
from shared.errors import InvalidInput

KNOWN = Path(__file__).parents[3] / "presets" / "models"
_AUTO_CONFIG: Any = AutoConfig  # untyped
_AUTO_MODEL: Any = AutoModelForImageTextToText


@dataclass(frozen=True)
class Tower:
    """A stack of equal blocks. ``linears``: (in, out) of each linear layer of one block; ``norms``: their widths.

    ``heads`` × ``head_width`` is the width of the queries, ``key_heads`` × ``head_width`` that of keys and of values.
    """

    blocks: int
    width: int
    linears: tuple[tuple[int, int], ...]
    norms: tuple[int, ...]
    heads: int
    key_heads: int
    head_width: int
    gated: bool


@dataclass(frozen=True)
class Architecture:
    """Sizes of a model. ``parameters`` counts all weights, ``language`` those of the language model and its head,
    ``embeddings`` those of the token table that are in no matrix product. ``adapted`` is Σ (in + out) over the
    layers that LoRA takes by default.

    A picture is what the vision tower reads at once: ``patches`` it is cut into, ``tokens`` it becomes; ``pictures``
    is how many the processor makes of one large image.
    """

    name: str
    parameters: int
    language: int
    embeddings: int
    adapted: int
    vocabulary: int
    text: Tower
    vision: Tower
    patches: int
    tokens: int
    pictures: int


def read_architecture(model: str, image_size: tuple[int, int], pictures: int | None = None) -> Architecture:
    """Read a model folder, a ``config.json``, or a name in ``presets/models``; raises InvalidInput.

    ``image_size`` (width, height) counts where the tower reads images of any size, ``pictures`` where it reads squares.
    """
    values = _read(model)
    known = values.get("_pictures")
    made = _without_weights(model, {name: value for name, value in values.items() if not name.startswith("_")})
    config = made.config
    decoder = language_model(made)
    vision = _vision_tower(made, decoder)
    language = {id(p): p for p in [*decoder.parameters(), *made.get_output_embeddings().parameters()]}
    table = made.get_input_embeddings().weight
    tied = made.get_output_embeddings().weight is table
    patches, tokens = _picture(config, image_size)
    return Architecture(
        name=Path(model).stem if model.endswith(".json") else Path(model).name,
        parameters=_count(made.parameters()),
        language=_count(language.values()),
        embeddings=0 if tied else table.numel(),
        adapted=sum(sum(made.get_submodule(name).weight.shape) for name in linear_layers(made)),
        vocabulary=int(table.shape[0]),
        text=block_shape(decoder.get_submodule("layers"), config.get_text_config()),
        vision=block_shape(vision, config.vision_config),
        patches=patches,
        tokens=tokens,
        pictures=pictures or int(known or 1),
    )


def _read(model: str) -> dict[str, Any]:
    path = Path(model)
    candidates = [path / "config.json", path, KNOWN / f"{model}.json"]
    found = next((candidate for candidate in candidates if candidate.is_file()), None)
    if found is None:
        names = ", ".join(sorted(p.stem for p in KNOWN.glob("*.json")))
        raise InvalidInput(f"{model} is not a model folder, a config.json or one of the known models ({names}).")
    try:
        values: dict[str, Any] = json.loads(found.read_text())
    except ValueError as error:
        raise InvalidInput(f"{found} is not JSON: {error}.") from error
    return values


def _without_weights(model: str, values: dict[str, Any]) -> Any:
    try:
        with torch.device("meta"):
            return _AUTO_MODEL.from_config(_AUTO_CONFIG.for_model(**values))
    except (TypeError, ValueError, KeyError) as error:
        words = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidInput(
            f"{model} is not the configuration of a vision-language model that transformers knows: {words}"
        ) from error


def _vision_tower(model: nn.Module, decoder: nn.Module) -> nn.ModuleList:
    """The longest stack of blocks outside the language model; of several, the one with the most weights."""
    inside = {id(module) for module in decoder.modules()}
    stacks = [m for m in model.modules() if isinstance(m, nn.ModuleList) and id(m) not in inside and len(m)]
    if not stacks:
        raise InvalidInput(f"{type(model).__name__} has no vision tower that the estimate can find.")
    return max(stacks, key=lambda stack: (len(stack), _count(stack.parameters())))


def block_shape(blocks: nn.Module, config: Any) -> Tower:
    """The shape of a list of equal blocks; ``config`` has the number of heads."""
    block: Any = next(blocks.children())
    linears = [m for m in block.modules() if isinstance(m, nn.Linear)]
    norms = [int(m.weight.shape[0]) for m in block.modules() if type(m).__name__.lower().endswith("norm")]
    heads = int(getattr(config, "num_attention_heads", None) or config.num_heads)
    return Tower(
        blocks=len(list(blocks.children())),
        width=norms[0],
        linears=tuple((m.in_features, m.out_features) for m in linears),
        norms=tuple(norms),
        heads=heads,
        key_heads=int(getattr(config, "num_key_value_heads", None) or heads),
        head_width=int(getattr(config, "head_dim", None) or norms[0] // heads),
        gated=any("gate" in name for name, _ in block.named_modules()),
    )


def _picture(config: Any, image_size: tuple[int, int]) -> tuple[int, int]:
    """Patches and tokens of one picture."""
    vision = config.vision_config
    patch = _side(vision.patch_size)
    if getattr(vision, "spatial_merge_size", None):  # Qwen: the image as it is
        merged = int(vision.spatial_merge_size)
        patches = math.prod(max(1, round(side / (patch * merged))) * merged for side in image_size)
        return patches, patches // merged**2
    patches = (_side(vision.image_size) // patch) ** 2
    if getattr(config, "scale_factor", None):  # Idefics3, SmolVLM
        return patches, patches // int(config.scale_factor) ** 2
    if getattr(config, "downsample_ratio", None):  # InternVL
        return patches, int(patches * float(config.downsample_ratio) ** 2)
    return patches, patches


def _side(value: Any) -> int:
    return int(value[0]) if isinstance(value, (list, tuple)) else int(value)


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(p.numel() for p in parameters)
