"""Image features computed once: with a frozen vision tower they never change, so training needs only the language
model.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from services.trainer.collator import Encoder, concatenated
from services.trainer.dataset import Sample
from services.trainer.models import language_model
from services.trainer.rows import answer_row
from shared.vlm.image_features import encode_images, takes_features

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


def compute_features(
    model: Any, encoder: Encoder, samples: Sequence[Sample], *, batch_size: int, cache_bytes: int
) -> dict[str, Tensor] | None:
    """Features of every image of ``samples`` on the CPU by image key; None if they don't fit.

    [pictures, tokens, width], or [tokens, width] where pictures differ in size.

    None also where the model does not take features in place of pixels, or they cannot be told apart by image: then
    the general path trains it.
    """
    if not takes_features(model):
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
            logger.info("%s gives no features by image: training without the cache", type(model).__name__)
            return None
        used += sum(one.nbytes for one in found)
        if used > cache_bytes:
            logger.info("image features need more than %d bytes: training without the cache", cache_bytes)
            return None
        features.update(zip(chunk, found, strict=True))
    return features


@torch.no_grad()
def _features(model: Any, encoder: Encoder, samples: Sequence[Sample]) -> list[Tensor] | None:
    encoded = [encoder.encode(answer_row(sample)) for sample in samples]
    inputs = {}
    for name in encoded[0].images:
        together = concatenated([item.images[name] for item in encoded]).to(model.device)
        inputs[name] = together.to(model.dtype) if together.is_floating_point() else together
    found = encode_images(model, inputs, [item.tokens["input_ids"] for item in encoded])
    return [one.joined.cpu() for one in found] if found is not None else None
