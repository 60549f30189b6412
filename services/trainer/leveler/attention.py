"""The student's own attention maps in training, with gradients: what the probe measures (shared/vlm/attention.py)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from services.trainer.losses import IGNORE
from shared.errors import InvalidInput
from shared.vlm.attention import answer_attention, image_token, lay_out, resized
from shared.vlm.loading import LoadedModel


class StudentMaps:
    """Maps of the samples of a batch. ``loaded`` determines the layout of image tokens."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self._token = image_token(loaded)

    def of(
        self,
        attentions: Sequence[Tensor] | None,
        inputs: Mapping[str, Tensor],
        labels: Tensor,
        sample: Tensor,
        teacher: Tensor,
    ) -> Tensor:
        """[B, G * G] like ``teacher``, NaN where it is; from the first row of each sample, which is its answer.

        ``attentions``: [R, heads, L, L] a layer; ``labels`` [R, L]; ``sample`` [R]. Raises InvalidInput for a family
        that returns no weights, or whose image tokens have an unknown order.
        """
        if not attentions or any(layer is None for layer in attentions):
            raise InvalidInput(
                f"{self._loaded.name} returns no attention weights, so its family cannot be trained with "
                "train.loss.attention: leave the term out."
            )
        grid = math.isqrt(teacher.shape[1])
        maps = [torch.full_like(one, math.nan) for one in teacher]
        for row in range(len(sample)):
            place = int(sample[row])
            if teacher[place].isnan().any() or (row > 0 and int(sample[row - 1]) == place):
                continue
            said = (labels[row] != IGNORE).nonzero()[:, 0]
            said = said[: max(1, len(said) - 1)] - 1
            on_image = answer_attention(attentions, row, said, inputs["input_ids"][row] == self._token)
            grids = inputs.get("image_grid_thw")
            features = {} if grids is None else {"image_grid_thw": grids[row : row + 1]}
            values = resized(lay_out(self._loaded, on_image, features), grid)
            maps[place] = (values / values.sum()).flatten()
        return torch.stack(maps)
