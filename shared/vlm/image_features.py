"""Image features reused across questions: what the vision tower makes of an image depends on the image alone.

Works for every family whose model computes features apart (``get_image_features``) and takes them in place of pixels
(``mm_encoder_outputs``), as transformers' own ``generate`` passes them. For any other family, batches hold pixels.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from shared.vlm.loading import LoadedModel
from shared.vlm.prompting import Encoded, collate

log = logging.getLogger(__name__)


def image_digest(images: Sequence[Image.Image]) -> str:
    """Identifies the pixels of all images of a prompt, in order."""
    digest = hashlib.blake2b(digest_size=16)
    for image in images:
        digest.update(f"{image.mode} {image.size};".encode())
        digest.update(image.tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Features:
    """Features of one prompt's images: a tensor [pictures, tokens, width], or one [tokens, width] per picture if their
    sizes differ.
    """

    parts: Tensor | tuple[Tensor, ...]

    @property
    def nbytes(self) -> int:
        tensors = (self.parts,) if isinstance(self.parts, Tensor) else self.parts
        return sum(tensor.nbytes for tensor in tensors)

    @property
    def joined(self) -> Tensor:
        """All features in one tensor: [pictures, tokens, width], or [tokens, width] if sizes differ."""
        return self.parts if isinstance(self.parts, Tensor) else torch.cat(self.parts)


class FeatureReuse:
    """The features of one checkpoint's images, at most ``max_bytes``; the least recently used go first.

    ``hits`` and ``misses`` count prompts with images, and ``on_lookup`` gets both after each batch that has any. Only
    one thread at a time may call ``collate``; any thread may call ``clear``.
    """

    def __init__(
        self,
        max_bytes: int,
        on_lookup: Callable[[int, int], None] = lambda hits, misses: None,  # noqa: ARG005
    ) -> None:
        self._max_bytes, self._on_lookup = max_bytes, on_lookup
        self._kept: OrderedDict[str, Features] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._usable: bool | None = None if max_bytes > 0 else False
        self.hits = self.misses = 0

    @property
    def nbytes(self) -> int:
        return self._bytes

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self._bytes = 0

    def collate(self, loaded: LoadedModel, batch: Sequence[Encoded]) -> dict[str, Any]:
        """Like `prompting.collate`, with features in place of pixels where possible."""
        if self._usable is None:
            self._usable = takes_features(loaded.model)
        with_images = [item for item in batch if any(map(is_pixels, item.features))]
        if not self._usable or not with_images or not all(item.image_key for item in with_images):
            return dict(collate(loaded, batch))
        found = self._find(loaded, with_images)
        if found is None:
            log.info("%s does not return features per picture: images are encoded again each time", loaded.name)
            self._usable = False
            return dict(collate(loaded, batch))
        inputs: dict[str, Any] = dict(collate(loaded, [_without_pixels(item) for item in batch]))
        merged: Any = merge_features([found[item.image_key] for item in with_images])
        inputs["mm_encoder_outputs"] = {"image": BaseModelOutputWithPooling(pooler_output=merged)}
        return inputs

    def _find(self, loaded: LoadedModel, items: Sequence[Encoded]) -> dict[str, Features] | None:
        """Features by image key, cached or computed now; each image once, however many prompts show it."""
        wanted = {item.image_key: item for item in items}
        found: dict[str, Features] = {}
        with self._lock:
            for key in wanted.keys() & self._kept.keys():
                self._kept.move_to_end(key)
                found[key] = self._kept[key]
        missing = {key: item for key, item in wanted.items() if key not in found}
        if missing:
            computed = self._compute(loaded, list(missing.values()))
            if computed is None:
                return None
            for key, features in zip(missing, computed, strict=True):
                found[key] = features
                self._keep(key, features)
        hits, misses = len(items) - len(missing), len(missing)
        self.hits, self.misses = self.hits + hits, self.misses + misses
        self._on_lookup(hits, misses)
        return found

    def _compute(self, loaded: LoadedModel, items: Sequence[Encoded]) -> list[Features] | None:
        try:
            return compute_features(loaded, items)
        except Exception:
            if self.misses:  # it has worked before, so these images are the cause
                raise
            log.exception("%s does not compute features from a prompt's images", loaded.name)
            return None

    def _keep(self, key: str, features: Features) -> None:
        if features.nbytes > self._max_bytes:
            return
        with self._lock:
            self._kept[key] = features
            self._bytes += features.nbytes
            while self._bytes > self._max_bytes:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= oldest.nbytes


def takes_features(model: Any) -> bool:
    """Whether the model computes image features apart and takes them in place of pixels."""
    return (
        hasattr(model.base_model, "get_image_features")
        and "mm_encoder_outputs" in inspect.signature(model.forward).parameters
        and getattr(model.config, "image_token_id", None) is not None
    )


@torch.inference_mode()
def compute_features(loaded: LoadedModel, items: Sequence[Encoded]) -> list[Features] | None:
    """Features of each prompt's images in one pass of the vision tower; None if they cannot be told apart."""
    return encode_images(loaded.model, collate(loaded, items), [item.features["input_ids"] for item in items])


def encode_images(model: Any, inputs: Mapping[str, Tensor], prompts: Sequence[Tensor]) -> list[Features] | None:
    """Features of the images of each of ``prompts`` (their input ids), whose image tensors together are ``inputs``."""
    encode = model.base_model.get_image_features
    names = inspect.signature(encode).parameters
    output = encode(**{name: value for name, value in inputs.items() if name in names}, return_dict=True)
    if getattr(output, "deepstack_features", None) is not None:
        return None
    places = [int((ids == model.config.image_token_id).sum()) for ids in prompts]
    pooled = getattr(output, "pooler_output", None)
    if isinstance(pooled, Tensor):
        return _rows_of(pooled, places)
    if isinstance(pooled, (list, tuple)) and all(isinstance(part, Tensor) for part in pooled):
        return _parts_of(pooled, places)
    return None


def _rows_of(pooled: Tensor, places: Sequence[int]) -> list[Features] | None:
    """Split [pictures, tokens, width] by each prompt's image ``places``; clones, so that each can be freed alone."""
    if pooled.dim() != 3 or any(count % pooled.shape[1] for count in places):
        return None
    counts = [count // pooled.shape[1] for count in places]
    if sum(counts) != pooled.shape[0]:
        return None
    return [Features(part.clone()) for part in torch.split(pooled, counts)]


def _parts_of(pooled: Sequence[Tensor], places: Sequence[int]) -> list[Features] | None:
    """The same if each picture has its own [tokens, width]."""
    rest = list(pooled)
    found: list[Features] = []
    for count in places:
        mine: list[Tensor] = []
        while sum(len(part) for part in mine) < count and rest:
            mine.append(rest.pop(0).clone())
        if sum(len(part) for part in mine) != count:
            return None
        found.append(Features(tuple(mine)))
    return None if rest else found


def merge_features(features: Sequence[Features]) -> Tensor | list[Tensor]:
    """Features of one batch, in the form that the model takes in place of pixels."""
    whole = [one.parts for one in features if isinstance(one.parts, Tensor)]
    if len(whole) == len(features):
        return torch.cat(whole)
    return [part for one in features for part in one.parts]


def is_pixels(name: str) -> bool:
    """Whether features replace this input; others, such as image sizes, stay."""
    return name.startswith("pixel_")


def _without_pixels(item: Encoded) -> Encoded:
    return replace(item, features={name: value for name, value in item.features.items() if not is_pixels(name)})
