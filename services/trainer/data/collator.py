"""Samples to model inputs: exactly the tokens that serving sees, then the answer; labels on the answer and its end
token only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from services.trainer.data.dataset import Sample
from services.trainer.data.teacher_tokens import Placed, TeacherTokens
from services.trainer.data.texts import Row, RowMaker, answer_row
from services.trainer.losses import IGNORE, Kind
from shared.errors import InvalidInput
from shared.vlm.image_features import is_pixels
from shared.vlm.loading import LoadedModel
from shared.vlm.prompting import Prompt, answer_ids, encode, question_prompt


@dataclass(frozen=True)
class Encoded:
    """One sample. ``tokens`` are [L] tensors (ids, mask, type ids …), ``images`` what the model needs of the picture.

    The first ``prompt`` tokens are the inference prompt, the rest is the answer with its end token.
    """

    tokens: dict[str, Tensor]
    images: dict[str, Tensor]
    prompt: int


class Encoder:
    """Runs the processor once a sample and remembers the outcome, pictures once an image, up to ``cache_bytes``."""

    def __init__(
        self,
        loaded: LoadedModel,
        prompt_of: Callable[[Row], str],
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

    def encode(self, row: Row) -> Encoded:
        """Model inputs of ``row``; raises UnreadableImage and InvalidInput."""
        tokens, images = self._tokens.get(_key(row)), self._images.get(row.sample.image_key)
        if tokens is None or images is None:
            tokens, images = self._process(row)
            self._remember(row, tokens, images)
        return Encoded(tokens[0], images, tokens[1])

    def answer_ids(self, sample: Sample) -> list[int]:
        """What is learned as the sample's answer, its end token included."""
        encoded = self.encode(answer_row(sample))
        ids: list[int] = encoded.tokens["input_ids"][encoded.prompt :].tolist()
        return ids

    def _process(self, row: Row) -> tuple[tuple[dict[str, Tensor], int], dict[str, Tensor]]:
        prompt = question_prompt(self._loaded, self._open_image(row.sample), self._prompt_of(row))
        served = encode(self._loaded, prompt)
        answer = learnable_ids(self._loaded, prompt, row.text)
        tokens, images = {}, {}
        for name, value in served.features.items():
            if _is_per_token(value, served.length):
                tokens[name] = _extended(name, value[0], answer)
            else:
                images[name] = _compact(name, value)
        return (tokens, served.length), images

    def _remember(self, row: Row, tokens: tuple[dict[str, Tensor], int], images: dict[str, Tensor]) -> None:
        new = 0 if row.sample.image_key in self._images else sum(t.nbytes for t in images.values())
        new += sum(t.nbytes for t in tokens[0].values())
        if new <= self._left:
            self._left -= new
            self._tokens[_key(row)] = tokens
            self._images.setdefault(row.sample.image_key, images)


class Collator:
    """A batch of samples as model inputs, padded on the right, and what the loss needs of it (losses/predictions.py).

    With ``features`` (see features.py) the picture's pixels are replaced by ``image_features``: a tensor, or a list of
    them where images differ in size. ``maker`` and ``tops`` belong to an alignment with terms beside the answer;
    without them every sample is one row.
    """

    def __init__(
        self,
        encoder: Encoder,
        features: Mapping[str, Tensor] | None = None,
        *,
        maker: RowMaker | None = None,
        tops: TeacherTokens | None = None,
        maps: bool = False,
    ) -> None:
        self._encoder, self._features = encoder, features
        self._maker, self._tops, self._maps = maker, tops, maps

    def length(self, sample: Sample) -> int:
        """Tokens of the sample's longest row: prompt, picture and text."""
        return max(len(self._encoder.encode(row).tokens["input_ids"]) for row in self._rows(sample))

    def __call__(self, samples: Sequence[Sample]) -> dict[str, Any]:
        expanded = [self._rows(sample) for sample in samples]
        rows = [row for several in expanded for row in several]
        encoded = [self._encoder.encode(row) for row in rows]
        batch: dict[str, Any] = {name: self._padded(name, encoded) for name in encoded[0].tokens}
        batch["labels"] = _stacked([_labels(item) for item in encoded], IGNORE)
        for name in encoded[0].images:
            if self._features is None or not is_pixels(name):
                batch[name] = concatenated([item.images[name] for item in encoded])
        if self._features is not None:
            found = [self._features[row.sample.image_key] for row in rows]
            batch["image_features"] = torch.cat(found) if found[0].dim() == 3 else found
        batch["is_replay"] = torch.tensor([sample.is_replay for sample in samples])
        batch["weights"] = torch.tensor([sample.weight for sample in samples], dtype=torch.float32)
        batch["kind"] = torch.tensor([int(row.kind) for row in rows])
        batch["sample"] = torch.tensor([number for number, several in enumerate(expanded) for _ in several])
        return batch | self._of_teacher(samples, rows, encoded, batch["labels"].shape[1])

    def _rows(self, sample: Sample) -> list[Row]:
        return [answer_row(sample)] if self._maker is None else self._maker.rows(sample)

    def _of_teacher(
        self, samples: Sequence[Sample], rows: Sequence[Row], encoded: Sequence[Encoded], width: int
    ) -> dict[str, Tensor]:
        """What the teacher thinks of the rows, where a term asks for it."""
        found: dict[str, Tensor] = {}
        if any(not math.isnan(row.share) for row in rows):
            found["shares"] = torch.tensor([row.share for row in rows], dtype=torch.float32)
        if self._maker is not None and self._tops is not None:
            wanted = [row.kind == Kind.ANSWER and self._maker.uses_top(row.sample) for row in rows]
            placed = [self._tops.read(row.sample) if use else None for row, use in zip(rows, wanted, strict=True)]
            if any(placed):
                found["top_ids"], found["top_logprobs"] = _laid_out(placed, encoded, width)
        if self._maps:
            size = next((len(s.teacher_attention) for s in samples if s.teacher_attention is not None), 0)
            empty = (math.nan,) * size
            values = [empty if s.is_replay else s.teacher_attention or empty for s in samples]
            if size and any(value is not empty for value in values):
                found["teacher_maps"] = torch.tensor(values, dtype=torch.float32)
        return found

    def _padded(self, name: str, encoded: Sequence[Encoded]) -> Tensor:
        return _stacked([item.tokens[name] for item in encoded], self._encoder.pad_token if name == "input_ids" else 0)


def learnable_ids(loaded: LoadedModel, prompt: Prompt, answer: str) -> list[int]:
    """The ids to learn after ``prompt``, as scoring reads them. Raises InvalidInput for an answer without tokens."""
    ids = answer_ids(loaded, prompt, answer)
    if len(ids) == 1:
        raise InvalidInput(f"The answer {answer!r} has no tokens to learn: leave the pair out of the set.")
    return ids


def concatenated(tensors: Sequence[Tensor]) -> Tensor:
    """Along dimension 0; where other sizes differ they are padded with zeros, which models take as absent pictures."""
    sizes = [max(t.shape[d] for t in tensors) for d in range(1, tensors[0].dim())]
    if all(list(t.shape[1:]) == sizes for t in tensors):
        return torch.cat(list(tensors))
    padded = []
    for tensor in tensors:
        room = tensor.new_zeros(tensor.shape[0], *sizes)
        room[tuple(slice(0, n) for n in tensor.shape)] = tensor
        padded.append(room)
    return torch.cat(padded)


def _is_per_token(value: Tensor, length: int) -> bool:
    return value.dim() == 2 and value.shape == (1, length) and not value.is_floating_point()


def _compact(name: str, value: Tensor) -> Tensor:
    """Pixel masks come as int64, eight times larger than what they say."""
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


def _labels(item: Encoded) -> Tensor:
    labels = item.tokens["input_ids"].clone()
    labels[: item.prompt] = IGNORE
    return labels


def _stacked(rows: Sequence[Tensor], fill: int) -> Tensor:
    width = max(len(row) for row in rows)
    out = torch.full((len(rows), width), fill, dtype=rows[0].dtype)
    for place, row in enumerate(rows):
        out[place, : len(row)] = row
    return out


def _laid_out(placed: Sequence[Placed | None], encoded: Sequence[Encoded], width: int) -> tuple[Tensor, Tensor]:
    """The teacher's alternatives where the labels are: ids [R, width, K] and log-probabilities, padded with -inf."""
    most = max(len(ids) for row in placed if row for ids, _ in row)
    ids = torch.zeros(len(placed), width, most, dtype=torch.long)
    logprobs = torch.full((len(placed), width, most), -math.inf)
    for number, (row, item) in enumerate(zip(placed, encoded, strict=True)):
        for offset, (tokens, values) in enumerate(row or []):
            ids[number, item.prompt + offset, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
            logprobs[number, item.prompt + offset, : len(values)] = torch.tensor(values)
    return ids, logprobs


def _key(row: Row) -> tuple[str, int, str]:
    return row.sample.pair_id, int(row.kind), row.text
