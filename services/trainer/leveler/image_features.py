"""Image features computed once: under a frozen vision tower they never change, so only the language model is run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from services.trainer.data.collator import concatenated
from services.trainer.data.dataset import Sample
from services.trainer.data.encoder import Encoder
from services.trainer.data.targets import answer_target
from services.trainer.launch.ranks import ALONE, Ranks
from services.trainer.leveler.distributed import everyone
from services.trainer.leveler.feature_cache import FeatureShelf
from services.trainer.leveler.models import language_model
from shared.vlm.image_features import encode_images, takes_features

logger = logging.getLogger(__name__)


def freeze_vision(model: nn.Module) -> None:
    """Leave only the language model and its head trainable; the tower and the connector make the image features."""
    trained = {id(p) for p in language_model(model).parameters()}
    head = getattr(model, "get_output_embeddings", lambda: None)()
    if head is not None:
        trained |= {id(p) for p in head.parameters()}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in trained and parameter.requires_grad)


def compute_features(
    model: Any,
    encoder: Encoder,
    samples: Sequence[Sample],
    shelf: FeatureShelf,
    *,
    batch_size: int,
    ranks: Ranks = ALONE,
) -> Mapping[str, Tensor] | None:
    """Features of every image of ``samples``, on the CPU, by image key, in ``shelf``. Each process computes a part.

    An image has [crops, tokens, width], or [tokens, width] if its crops differ in size. None if the model does not take
    features in place of pixels, or if they cannot be split by image: then it is trained on pixels.
    """
    if not takes_features(model):
        return None
    by_image = {sample.image_key: sample for sample in samples}
    keys = sorted(by_image)[ranks.index :: ranks.count]
    if ranks.is_first:
        shelf.clear()
    everyone(True, ranks)
    model.eval()
    complete = True
    for start in range(0, len(keys), batch_size):
        chunk = keys[start : start + batch_size]
        found = _features(model, encoder, [by_image[key] for key in chunk])
        if found is None:
            complete = False
            break
        shelf.put(dict(zip(chunk, found, strict=True)))
    if not everyone(complete, ranks):
        logger.info("%s does not return features by image: training without the cache", type(model).__name__)
        return None
    if ranks.count > 1:
        shelf.find_all()
    if shelf.files:
        logger.info("image features are in %d file(s), mapped into memory", shelf.files)
    return shelf


@torch.no_grad()
def _features(model: Any, encoder: Encoder, samples: Sequence[Sample]) -> list[Tensor] | None:
    encoded = [encoder.encode(answer_target(sample)) for sample in samples]
    inputs = {}
    for name in encoded[0].images:
        together = concatenated([item.images[name] for item in encoded]).to(model.device)
        inputs[name] = together.to(model.dtype) if together.is_floating_point() else together
    found = encode_images(model, inputs, [item.tokens["input_ids"] for item in encoded])
    return [one.joined.cpu() for one in found] if found is not None else None
