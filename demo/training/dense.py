"""The dense loss of the vision tower: what does each patch show? Without it, such tiny models do not learn to read."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from demo.world.canvas import CHANNELS

CHANNEL_WEIGHTS = {"char": 1.0, "color": 0.5, "object": 1.0, "word": 1.5, "first": 1.0, "last": 1.0, "position": 0.6}
NOTHING_WEIGHT = 0.1
"""Weight of class 0: most patches show nothing."""


def build_head(width: int, seed: int) -> nn.Linear:
    """Linear head from patch features to the classes of all channels; thrown away after training."""
    torch.manual_seed(seed)
    return nn.Linear(width, sum(CHANNELS.values()))


def dense_loss(features: Tensor, head: nn.Linear, labels: Tensor) -> Tensor:
    """Weighted mean cross-entropy over channels. ``features`` [B, 64, width]; ``labels`` long [B, 7, 8, 8]."""
    total = torch.zeros(())
    for index, (name, scores) in enumerate(_channel_scores(features, head)):
        weight = torch.ones(scores.shape[-1])
        weight[0] = NOTHING_WEIGHT
        loss = functional.cross_entropy(scores.flatten(0, 1).float(), labels[:, index].reshape(-1), weight=weight)
        total = total + CHANNEL_WEIGHTS[name] * loss
    return total / sum(CHANNEL_WEIGHTS.values())


@torch.no_grad()
def dense_accuracy(features: Tensor, head: nn.Linear, labels: Tensor) -> dict[str, float]:
    """Share of the patches that show something which are named right, by channel."""
    shares = {}
    for index, (name, scores) in enumerate(_channel_scores(features, head)):
        wanted = labels[:, index].flatten(1)
        shown = wanted > 0
        shares[name] = round((scores.argmax(-1) == wanted)[shown].float().mean().item(), 3)
    return shares


def _channel_scores(features: Tensor, head: nn.Linear) -> list[tuple[str, Tensor]]:
    scores = torch.split(functional.linear(features, head.weight, head.bias), list(CHANNELS.values()), -1)
    return list(zip(CHANNELS, scores, strict=True))
