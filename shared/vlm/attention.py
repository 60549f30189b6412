"""Where a model looks while it gives an answer: the white-box probe's measure.

The answer is forced after the prompt in one forward pass with plain ("eager") attention, the only kind that returns its
weights. For every position that predicts a token of the answer, the weights on the image's tokens are averaged over all
heads of the last half of the language model's layers (early layers mostly attend to the beginning of the sequence),
then summed over those positions and laid out as the image's tokens lie in the image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from shared.errors import InvalidInput
from shared.vlm.loading import LoadedModel, load_model
from shared.vlm.prompting import Prompt, answer_ids, collate, encode
from shared.vlm.scoring import extended


@dataclass(frozen=True)
class AttentionMap:
    """``values`` [G, G] float32, rows from the top, sum 1; ``image_share``: the image's share of all attention."""

    values: torch.Tensor
    image_share: float


def load_probe(folder: str | Path, *, dtype: str, device: str, trust_remote_code: bool = False) -> LoadedModel:
    """Load a model that returns its attention weights; raises BadCheckpoint."""
    loaded = load_model(folder, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
    loaded.model.set_attn_implementation("eager")
    return loaded


def probed_layers(count: int) -> list[int]:
    """Indices of the layers that are averaged: the last half of ``count``."""
    return list(range(count // 2, count))


@torch.inference_mode()
def image_attention(loaded: LoadedModel, prompt: Prompt, answer: str, grid: int) -> AttentionMap:
    """Where ``loaded`` looks while it answers ``answer``, on a ``grid`` × ``grid`` raster of the prompt's one image.

    Raises InvalidInput for a prompt without exactly one image, and for families whose image tokens lie in an unknown
    order.
    """
    if len(prompt.images) != 1:
        raise InvalidInput(f"Attention is measured on one image, and this prompt has {len(prompt.images)}.")
    encoded = encode(loaded, prompt)
    ids = answer_ids(loaded, prompt, answer)
    features = collate(loaded, [extended(encoded, ids)])
    output: Any = loaded.model(**features, use_cache=False, output_attentions=True)
    weights = output.attentions
    if not weights or weights[0] is None:
        raise InvalidInput(f"{loaded.name} does not return attention weights: its model family cannot be probed.")
    said = torch.arange(encoded.length - 1, encoded.length - 1 + max(1, len(ids) - 1), device=loaded.device)
    on_image = answer_attention(weights, 0, said, features["input_ids"][0] == image_token(loaded))
    values = resized(lay_out(loaded, on_image, encoded.features), grid)
    # a row of attention weights sums to 1, so all attention is the number of positions
    return AttentionMap((values / values.sum()).cpu(), float(on_image.sum() / len(said)))


def answer_attention(
    weights: Sequence[torch.Tensor], row: int, positions: torch.Tensor, on_image: torch.Tensor
) -> torch.Tensor:
    """Attention on each image token [N] of one row of a batch.

    ``weights``: [R, heads, L, L] per layer; ``positions`` [P] predict the answer; ``on_image`` [L] marks image tokens.
    """
    chosen = [weights[layer][row][:, positions].float().mean(0) for layer in probed_layers(len(weights))]
    return torch.stack(chosen).mean(0)[:, on_image].sum(0)


def lay_out(loaded: LoadedModel, on_image: torch.Tensor, features: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Weights per image token [N] → [h, w]."""
    if "image_grid_thw" in features:  # Qwen: patches of any shape, merged in squares
        _, height, width = (int(n) for n in features["image_grid_thw"][0])
        merged = int(getattr(loaded.processor.image_processor, "merge_size", 1))
        return on_image.view(height // merged, width // merged)
    on_image = _whole_view(loaded.processor, on_image)
    side = math.isqrt(len(on_image))
    if side * side != len(on_image) or side == 0:
        raise InvalidInput(f"{loaded.name} reads an image as {len(on_image)} tokens, which do not form a square.")
    return on_image.view(side, side)


def _whole_view(processor: Any, on_image: torch.Tensor) -> torch.Tensor:
    """The part of [N] that belongs to the view of the whole image, if large images are also cut into tiles."""
    if (first := getattr(processor, "num_image_tokens", None)) is not None:  # LLaVA-OneVision
        return on_image[: int(first)]
    for name in ("image_seq_len", "image_seq_length"):  # Idefics3, SmolVLM; InternVL
        last = getattr(processor, name, None)
        if last is not None and len(on_image) % int(last) == 0:
            return on_image[-int(last) :]
    return on_image


def resized(layout: torch.Tensor, grid: int) -> torch.Tensor:
    resized = torch.nn.functional.interpolate(
        layout[None, None], size=(grid, grid), mode="bilinear", antialias=True, align_corners=False
    )
    return resized[0, 0].clamp_min(0)


def image_token(loaded: LoadedModel) -> int:
    config = loaded.model.config
    for name in ("image_token_id", "image_token_index"):
        if (found := getattr(config, name, None)) is not None:
            return int(found)
    raise InvalidInput(
        f"{loaded.name} does not say which token stands for an image: its model family cannot be probed."
    )
