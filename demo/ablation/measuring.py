"""Batched teacher forcing and attention for mining in one process: what the services measure over HTTP, faster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from demo.answering import Pixels
from shared.sets import Alternative
from shared.vlm.attention import image_attention
from shared.vlm.loading import LoadedModel, load_model
from shared.vlm.prompting import Encoded, Prompt, answer_ids, collate, encode, question_prompt
from shared.vlm.scoring import extended

BATCH = 64
Asked = tuple[Pixels, str]
"""An image, uint8 [96, 96, 3], and the user's turn."""


@dataclass(frozen=True)
class Forced:
    """``logprob``: mean over the answer's tokens and its end, nats. ``top``: the likeliest tokens at each of them."""

    logprob: float
    top: tuple[tuple[Alternative, ...], ...]


class Meter:
    """One model that is measured, in float32 on the CPU."""

    def __init__(self, folder: Path) -> None:
        self._loaded: LoadedModel = load_model(folder)
        self._loaded.model.set_attn_implementation("eager")  # returns its weights, and is faster for short sequences

    def forced(self, asked: Sequence[Asked], answers: Sequence[Sequence[str]], top: int = 0) -> list[list[Forced]]:
        """What the model thinks of the ``answers`` to each question, with ``top`` alternatives a token, likeliest
        first; [question][answer].
        """
        found: list[list[Forced]] = [[] for _ in asked]
        order = sorted(range(len(asked)), key=lambda place: len(asked[place][1]))
        for start in range(0, len(order), BATCH):
            part = order[start : start + BATCH]
            prompts = [self._prompt(*asked[place]) for place in part]
            encoded = [encode(self._loaded, prompt) for prompt in prompts]
            for number in range(len(answers[0])):
                ids = [
                    answer_ids(self._loaded, prompt, answers[place][number])
                    for prompt, place in zip(prompts, part, strict=True)
                ]
                for place, one in zip(part, self._batch(encoded, ids, top), strict=True):
                    found[place].append(one)
        return found

    def attention(self, asked: Sequence[Asked], answers: Sequence[str], grid: int) -> list[tuple[float, ...]]:
        """Where the model looks while it gives each answer: grid * grid values, row by row from the top, sum 1."""
        return [
            tuple(image_attention(self._loaded, self._prompt(*one), answer, grid).values.flatten().tolist())
            for one, answer in zip(asked, answers, strict=True)
        ]

    @torch.inference_mode()
    def _batch(self, encoded: Sequence[Encoded], ids: Sequence[list[int]], top: int) -> list[Forced]:
        features = collate(self._loaded, [extended(one, tail) for one, tail in zip(encoded, ids, strict=True)])
        longest = max(len(tail) for tail in ids)
        logits = self._loaded.model(**features, use_cache=False, logits_to_keep=longest + 1).logits
        return [self._read(row, tail, top) for row, tail in zip(logits, ids, strict=True)]

    def _read(self, logits: torch.Tensor, ids: Sequence[int], top: int) -> Forced:
        predicted = logits[-len(ids) - 1 : -1].float().log_softmax(-1)
        logprobs = predicted.gather(1, torch.tensor(list(ids))[:, None])
        tops = predicted.topk(top, -1) if top else None
        return Forced(float(logprobs.mean()), self._alternatives(tops.indices, tops.values) if tops else ())

    def _alternatives(self, tokens: torch.Tensor, values: torch.Tensor) -> tuple[tuple[Alternative, ...], ...]:
        return tuple(
            tuple(Alternative(self._loaded.tokenizer.decode([token]), value) for token, value in zip(*row, strict=True))
            for row in zip(tokens.tolist(), values.tolist(), strict=True)
        )

    def _prompt(self, pixels: Pixels, text: str) -> Prompt:
        return question_prompt(self._loaded, Image.fromarray(pixels), text)
