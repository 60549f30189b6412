"""Image features computed once: with a frozen vision tower they never change, so training needs only the language
model.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from services.trainer.collator import Encoder, concatenated
from services.trainer.dataset import Sample
from services.trainer.models import language_model
from services.trainer.rows import answer_row

logger = logging.getLogger(__name__)


def freeze_vision(model: nn.Module) -> None:
    """Leave only the language model and its head trainable: all that makes image features (tower and connector) is
    frozen.
    """
    trained = {id(p) for p in language_model(model).parameters()}
    head = getattr(model, "get_output_embeddings", lambda: None)()
    if head is not None:
        trained |= {id(p) for p in head.parameters()}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in trained and parameter.requires_grad)


def can_take_features(model: Any) -> bool:
    """Whether the model can compute image features alone and take them in place of pixels."""
    return hasattr(model, "get_image_features") and "mm_encoder_outputs" in inspect.signature(model.forward).parameters


def compute_features(
    model: Any, encoder: Encoder, samples: Sequence[Sample], *, batch_size: int, cache_bytes: int
) -> dict[str, Tensor] | None:
    """Features of every image of ``samples`` ([pictures, tokens, width] on the CPU) by image key; None if they don't
    fit.

    None also where the model's features are not one tensor with a row a picture: then the general path trains it.
    """
    if not can_take_features(model):
        return None
    by_image = {sample.image_key: sample for sample in samples}
    keys = sorted(by_image)
    features: dict[str, Tensor] = {}
    used = 0
    model.eval()
    for start in range(0, len(keys), batch_size):
        chunk = keys[start : start + batch_size]
        found = _features(model, encoder, [by_image[key] for key in chunk])
        if found is None:
            return None
        used += sum(t.nbytes for t in found)
        if used > cache_bytes:
            logger.info("image features need more than %d bytes: training without the cache", cache_bytes)
            return None
        features.update(zip(chunk, found, strict=True))
    return features


@torch.no_grad()
def _features(model: Any, encoder: Encoder, samples: Sequence[Sample]) -> list[Tensor] | None:
    images = [encoder.encode(answer_row(sample)).images for sample in samples]
    rows = [_pictures(item["pixel_values"]) for item in images if "pixel_values" in item]
    if len(rows) != len(images) or any(count is None for count in rows):
        return None
    inputs = {name: concatenated([item[name] for item in images]).to(model.device) for name in images[0]}
    pooled = model.get_image_features(**inputs).pooler_output
    counts = [count for count in rows if count is not None]
    if not isinstance(pooled, Tensor) or pooled.dim() != 3 or pooled.shape[0] != sum(counts):
        return None
    return [part.cpu() for part in torch.split(pooled, counts)]


def _pictures(pixels: Tensor) -> int | None:
    """How many pictures one sample's [1, pictures, 3, H, W] holds; absent ones are all zero."""
    if pixels.dim() != 5 or pixels.shape[0] != 1:
        return None
    return int((pixels[0] != 0).flatten(1).any(1).sum())
