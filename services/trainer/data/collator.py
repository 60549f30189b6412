"""Samples to a batch of model inputs, with labels on the texts to learn and their end tokens only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from services.trainer.data.dataset import Sample
from services.trainer.data.encoder import EncodedTarget, Encoder
from services.trainer.data.targets import Target, TargetMaker, answer_target
from services.trainer.data.teacher_tokens import Placed, TeacherTokens
from services.trainer.losses import IGNORE, TargetKind
from shared.vlm.image_features import is_pixels


class Collator:
    """A batch of samples as model inputs, padded on the right, and what the loss needs to know (losses/predictions.py).

    With ``features`` (leveler/image_features.py) the pixels are replaced by ``image_features``: a tensor, or a list of
    them where images differ in size. ``maker`` and ``tops`` belong to an alignment with terms besides the answer;
    without them every sample has one target.
    """

    def __init__(
        self,
        encoder: Encoder,
        features: Mapping[str, Tensor] | None = None,
        *,
        maker: TargetMaker | None = None,
        tops: TeacherTokens | None = None,
        maps: bool = False,
    ) -> None:
        self._encoder, self._features = encoder, features
        self._maker, self._tops, self._maps = maker, tops, maps

    def length(self, sample: Sample) -> int:
        """Tokens of the sample's longest target: prompt, image and text."""
        return max(len(self._encoder.encode(target).tokens["input_ids"]) for target in self._targets(sample))

    def __call__(self, samples: Sequence[Sample]) -> dict[str, Any]:
        expanded = [self._targets(sample) for sample in samples]
        targets = [target for several in expanded for target in several]
        encoded = [self._encoder.encode(target) for target in targets]
        batch: dict[str, Any] = {name: self._padded(name, encoded) for name in encoded[0].tokens}
        batch["labels"] = _stacked([_labels(item) for item in encoded], IGNORE)
        for name in encoded[0].images:
            if self._features is None or not is_pixels(name):
                batch[name] = concatenated([item.images[name] for item in encoded])
        if self._features is not None:
            found = [self._features[target.sample.image_key] for target in targets]
            batch["image_features"] = torch.cat(found) if found[0].dim() == 3 else found
        batch["is_replay"] = torch.tensor([sample.is_replay for sample in samples])
        batch["weights"] = torch.tensor([sample.weight for sample in samples], dtype=torch.float32)
        batch["kind"] = torch.tensor([int(target.kind) for target in targets])
        batch["sample"] = torch.tensor([number for number, several in enumerate(expanded) for _ in several])
        return batch | self._of_teacher(samples, targets, encoded, batch["labels"].shape[1])

    def _targets(self, sample: Sample) -> list[Target]:
        return [answer_target(sample)] if self._maker is None else self._maker.targets(sample)

    def _of_teacher(
        self, samples: Sequence[Sample], targets: Sequence[Target], encoded: Sequence[EncodedTarget], width: int
    ) -> dict[str, Tensor]:
        """What the teacher said of the targets, where a term asks for it."""
        found: dict[str, Tensor] = {}
        if any(not math.isnan(target.share) for target in targets):
            found["shares"] = torch.tensor([target.share for target in targets], dtype=torch.float32)
        if self._maker is not None and self._tops is not None:
            wanted = [target.kind == TargetKind.ANSWER and self._maker.uses_top(target.sample) for target in targets]
            placed = [
                self._tops.read(target.sample) if use else None for target, use in zip(targets, wanted, strict=True)
            ]
            if any(placed):
                found["top_ids"], found["top_logprobs"] = _laid_out(placed, encoded, width)
        if self._maps:
            size = next((len(s.teacher_attention) for s in samples if s.teacher_attention is not None), 0)
            empty = (math.nan,) * size
            values = [empty if s.is_replay else s.teacher_attention or empty for s in samples]
            if size and any(value is not empty for value in values):
                found["teacher_maps"] = torch.tensor(values, dtype=torch.float32)
        return found

    def _padded(self, name: str, encoded: Sequence[EncodedTarget]) -> Tensor:
        return _stacked([item.tokens[name] for item in encoded], self._encoder.pad_token if name == "input_ids" else 0)


def concatenated(tensors: Sequence[Tensor]) -> Tensor:
    """Along dimension 0; the others are padded with zeros to the largest size, which models take as absent images."""
    sizes = [max(t.shape[d] for t in tensors) for d in range(1, tensors[0].dim())]
    if all(list(t.shape[1:]) == sizes for t in tensors):
        return torch.cat(list(tensors))
    padded = []
    for tensor in tensors:
        room = tensor.new_zeros(tensor.shape[0], *sizes)
        room[tuple(slice(0, n) for n in tensor.shape)] = tensor
        padded.append(room)
    return torch.cat(padded)


def _labels(item: EncodedTarget) -> Tensor:
    labels = item.tokens["input_ids"].clone()
    labels[: item.prompt] = IGNORE
    return labels


def _stacked(tensors: Sequence[Tensor], fill: int) -> Tensor:
    width = max(map(len, tensors))
    out = torch.full((len(tensors), width), fill, dtype=tensors[0].dtype)
    for place, tensor in enumerate(tensors):
        out[place, : len(tensor)] = tensor
    return out


def _laid_out(placed: Sequence[Placed | None], encoded: Sequence[EncodedTarget], width: int) -> tuple[Tensor, Tensor]:
    """The teacher's alternatives where the labels are: ids [R, width, K] and log-probabilities, padded with -inf."""
    most = max(len(ids) for row in placed if row for ids, _ in row)
    ids = torch.zeros(len(placed), width, most, dtype=torch.long)
    logprobs = torch.full((len(placed), width, most), -math.inf)
    for number, (row, item) in enumerate(zip(placed, encoded, strict=True)):
        for offset, (tokens, values) in enumerate(row or []):
            ids[number, item.prompt + offset, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
            logprobs[number, item.prompt + offset, : len(values)] = torch.tensor(values)
    return ids, logprobs
