"""Predictions of a few rows, and a check of gradients against finite differences."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from services.trainer.losses import Predictions, TargetKind


def predictions(logits: Tensor, labels: Tensor, **more: object) -> Predictions:
    """One answer row a sample, unless said otherwise."""
    rows = len(labels)
    values: dict[str, object] = {
        "sample": torch.arange(rows),
        "kind": torch.full((rows,), int(TargetKind.ANSWER)),
        "is_replay": torch.zeros(rows, dtype=torch.bool),
        "weights": torch.ones(rows),
    }
    return Predictions(logits, labels, **{**values, **more})  # type: ignore[arg-type]


def check_gradient(loss: Callable[[Tensor], Tensor], logits: Tensor) -> None:
    """Autograd's gradient of a scalar against central differences, in float64."""
    assert torch.autograd.gradcheck(loss, (logits.double().requires_grad_(True),), eps=1e-6, atol=1e-7, rtol=1e-5)
