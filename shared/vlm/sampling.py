"""Mixed greedy and sampled decoding in one batch, as a logits processor of Hugging Face's ``generate``.

Sampling is done by the Gumbel-max trick: with noise g, argmax(logits / T + g) is a draw from softmax(logits / T). So a
batch that ``generate`` decodes greedily can hold sampled rows too, and each row's draws depend only on its own seed,
not on its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessor


@dataclass(frozen=True)
class Sampling:
    """How one answer is decoded. Temperature 0 is greedy; ``top_logprobs`` alternatives are reported per token."""

    max_tokens: int = 16
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    top_logprobs: int = 0


@dataclass(frozen=True)
class Step:
    """What one decoding step chose: ``ids`` and ``logprobs`` [B], ``top_ids`` and ``top_logprobs`` [B][K]."""

    ids: list[int]
    logprobs: list[float]
    top_ids: list[list[int]]
    top_logprobs: list[list[float]]


class RowSampler(LogitsProcessor):
    """Leaves greedy rows alone, perturbs sampled rows so that their argmax is a sample, and keeps the step in ``last``.

    Log-probabilities are taken here, step by step: the logits of whole answers over a real vocabulary take gigabytes.
    """

    last: Step

    def __init__(self, samplings: Sequence[Sampling]) -> None:
        self._rows = [(row, s, _generator(s.seed)) for row, s in enumerate(samplings) if s.temperature > 0]
        self._top = max(s.top_logprobs for s in samplings)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """``input_ids`` [B, T], ``scores`` [B, V] → [B, V]."""
        logits = scores.float()
        perturbed: Any = self._perturbed(logits) if self._rows else logits
        chosen = perturbed.argmax(-1)
        logprobs = logits.log_softmax(-1)
        best = logprobs.topk(min(self._top, logits.shape[-1]))
        self.last = Step(
            ids=chosen.tolist(),
            logprobs=logprobs.gather(1, chosen[:, None])[:, 0].tolist(),
            top_ids=best.indices.tolist(),
            top_logprobs=best.values.tolist(),
        )
        return perturbed  # type: ignore[no-any-return]

    def _perturbed(self, logits: torch.Tensor) -> torch.Tensor:
        result = logits.clone()
        for row, sampling, generator in self._rows:
            kept = _top_p(logits[row] / sampling.temperature, sampling.top_p)
            noise = torch.rand(kept.shape, generator=generator).clamp_min_(1e-20).to(kept.device)
            result[row] = kept - torch.log(-torch.log(noise))
        return result


def _generator(seed: int | None) -> torch.Generator:
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed % (1 << 63))
    return generator


def _top_p(logits: torch.Tensor, top_p: float) -> torch.Tensor:
    """Nucleus filter of one row: keep the smallest set of tokens whose probability reaches ``top_p``."""
    if top_p >= 1:
        return logits
    ordered, index = logits.sort(descending=True)
    before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
    cut = torch.zeros_like(logits, dtype=torch.bool).scatter(0, index, before > top_p)
    return logits.masked_fill(cut, -torch.inf)
