"""A target as model inputs: exactly the tokens that serving sees, then the text to learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from services.trainer.data.dataset import Sample
from services.trainer.data.targets import Target, answer_target
from shared.errors import InvalidInput
from shared.vlm.loading import LoadedModel
from shared.vlm.prompting import Prompt, answer_ids, encode, question_prompt


@dataclass(frozen=True)
class EncodedTarget:
    """``tokens``: [L] tensors (ids, mask, type ids …), of which the first ``prompt`` are the prompt as in serving, and
    the rest the text to learn with its end token. ``images``: what the model needs of the image.
    """

    tokens: dict[str, Tensor]
    images: dict[str, Tensor]
    prompt: int


class Encoder:
    """Runs the processor once for each target, and keeps up to ``cache_bytes`` of what it made, each image once."""

    def __init__(
        self,
        loaded: LoadedModel,
        prompt_of: Callable[[Target], str],
        open_image: Callable[[Sample], Image.Image],
        *,
        cache_bytes: int,
    ) -> None:
        self._loaded = loaded
        self._prompt_of, self._open_image = prompt_of, open_image
        self._left = cache_bytes
        self._tokens: dict[tuple[str, int, str], tuple[dict[str, Tensor], int]] = {}
        self._images: dict[str, dict[str, Tensor]] = {}

    @property
    def pad_token(self) -> int:
        return int(self._loaded.tokenizer.pad_token_id)

    @property
    def loaded(self) -> LoadedModel:
        return self._loaded

    def encode(self, target: Target) -> EncodedTarget:
        """Model inputs of ``target``; raises UnreadableImage and InvalidInput."""
        tokens, images = self._tokens.get(_key(target)), self._images.get(target.sample.image_key)
        if tokens is None or images is None:
            tokens, images = self._process(target)
            self._remember(target, tokens, images)
        return EncodedTarget(tokens[0], images, tokens[1])

    def answer_ids(self, sample: Sample) -> list[int]:
        """What is learned as the sample's answer, its end token included."""
        encoded = self.encode(answer_target(sample))
        ids: list[int] = encoded.tokens["input_ids"][encoded.prompt :].tolist()
        return ids

    def _process(self, target: Target) -> tuple[tuple[dict[str, Tensor], int], dict[str, Tensor]]:
        prompt = question_prompt(self._loaded, self._open_image(target.sample), self._prompt_of(target))
        served = encode(self._loaded, prompt)
        answer = learnable_ids(self._loaded, prompt, target.text)
        tokens, images = {}, {}
        for name, value in served.features.items():
            if _is_per_token(value, served.length):
                tokens[name] = _extended(name, value[0], answer)
            else:
                images[name] = _compact(name, value)
        return (tokens, served.length), images

    def _remember(self, target: Target, tokens: tuple[dict[str, Tensor], int], images: dict[str, Tensor]) -> None:
        new = 0 if target.sample.image_key in self._images else sum(t.nbytes for t in images.values())
        new += sum(t.nbytes for t in tokens[0].values())
        if new <= self._left:
            self._left -= new
            self._tokens[_key(target)] = tokens
            self._images.setdefault(target.sample.image_key, images)


def learnable_ids(loaded: LoadedModel, prompt: Prompt, answer: str) -> list[int]:
    """The ids to learn after ``prompt``, as scoring reads them. Raises InvalidInput for an answer without tokens."""
    ids = answer_ids(loaded, prompt, answer)
    if len(ids) == 1:
        raise InvalidInput(f"The answer {answer!r} has no tokens to learn: leave the pair out of the set.")
    return ids


def _is_per_token(value: Tensor, length: int) -> bool:
    return value.dim() == 2 and value.shape == (1, length) and not value.is_floating_point()


def _compact(name: str, value: Tensor) -> Tensor:
    """Pixel masks come as int64, eight times larger than they need to be."""
    return value.bool() if name == "pixel_attention_mask" else value


def _extended(name: str, value: Tensor, answer: list[int]) -> Tensor:
    """A per-token tensor of the prompt, continued over the answer."""
    if name == "input_ids":
        tail = torch.tensor(answer, dtype=value.dtype)
    elif name == "attention_mask":
        tail = torch.ones(len(answer), dtype=value.dtype)
    else:
        tail = torch.zeros(len(answer), dtype=value.dtype)
    return torch.cat([value, tail])


def _key(target: Target) -> tuple[str, int, str]:
    return target.sample.pair_id, int(target.kind), target.text
