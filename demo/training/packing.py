"""Many questions about one image in one row: the image is the shared prefix, the questions do not see each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from demo.training.processor import ASSISTANT, FAKE_IMAGE, GLOBAL_IMAGE, IMAGE_TOKENS, USER

HEAD = 3
"""Tokens before the image: user, fake image, global image."""
PREFIX = HEAD + IMAGE_TOKENS + 1
"""Tokens up to and with the fake image token after the image."""
IGNORE = -100
QuestionAnswer = tuple[str, str]


@dataclass(frozen=True)
class Packed:
    """A batch of packed rows.

    ``ids``: text tokens, long [B, 4 + T] (the 4 around the image first). ``targets``: long [B, N], N = PREFIX + T, the
    token at each place or IGNORE. ``bias``: [B, 1, N, N], 0 where a place may be attended to, else -1e4.
    ``positions``: long [B, N].
    """

    ids: Tensor
    targets: Tensor
    bias: Tensor
    positions: Tensor


def normalise(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 [B, H, W, 3] to float32 [B, 3, H, W] in -1..1, as the image processor does."""
    return torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1


class Packer:
    """Turns questions and answers into token rows in the format of the chat template."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: dict[str, list[int]] = {}
        user, fake, global_image = tokenizer.convert_tokens_to_ids([USER, FAKE_IMAGE, GLOBAL_IMAGE])
        self._prefix = [user, fake, global_image, fake]
        self._assistant: int = tokenizer.convert_tokens_to_ids(ASSISTANT)
        self._end: int = tokenizer.eos_token_id

    def pack(self, rows: Sequence[Sequence[QuestionAnswer]], dtype: torch.dtype = torch.float32) -> Packed:
        """One packed row an image; position numbers start anew after the image for every question."""
        built = [self._row(row) for row in rows]
        longest = max(len(ids) for ids, _, _, _ in built)
        count, width = len(rows), PREFIX + longest
        ids = torch.zeros(count, len(self._prefix) + longest, dtype=torch.long)
        ids[:, : len(self._prefix)] = torch.tensor(self._prefix)
        targets = torch.full((count, width), IGNORE)
        blocks = torch.full((count, width), -1)
        blocks[:, :PREFIX] = 0
        positions = torch.arange(width).repeat(count, 1)
        for index, (row_ids, row_targets, row_blocks, row_positions) in enumerate(built):
            end = PREFIX + len(row_ids)
            ids[index, len(self._prefix) : len(self._prefix) + len(row_ids)] = torch.tensor(row_ids)
            targets[index, PREFIX:end] = torch.tensor(row_targets)
            blocks[index, PREFIX:end] = torch.tensor(row_blocks)
            positions[index, PREFIX:end] = torch.tensor(row_positions)
        visible = (blocks[:, None, :] == 0) | (blocks[:, :, None] == blocks[:, None, :])
        visible &= torch.ones(width, width, dtype=torch.bool).tril()
        bias = torch.zeros(visible.shape, dtype=dtype).masked_fill_(~visible, -1e4)
        return Packed(ids, targets, bias[:, None], positions)

    def _row(self, row: Sequence[QuestionAnswer]) -> tuple[list[int], list[int], list[int], list[int]]:
        ids: list[int] = []
        targets: list[int] = []
        blocks: list[int] = []
        positions: list[int] = []
        for number, (question, answer) in enumerate(row, start=1):
            prompt = [*self._encode(question), self._assistant]
            reply = [*self._encode(answer), self._end]
            length = len(prompt) + len(reply)
            ids += prompt + reply
            targets += [IGNORE] * len(prompt) + reply
            blocks += [number] * length
            positions += range(PREFIX, PREFIX + length)
        return ids, targets, blocks, positions

    def _encode(self, text: str) -> list[int]:
        if text not in self._ids:
            if len(self._ids) > 200_000:
                self._ids.clear()
            self._ids[text] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return self._ids[text]
