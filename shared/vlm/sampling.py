"""Mixed greedy and sampled decoding in one batch, as logits processor and stopping criterion of Hugging Face's
``generate``.

Sampling is done by the Gumbel-max trick: with noise g, argmax(logits / T + g) is a draw from softmax(logits / T). So
a batch that
``generate`` decodes greedily holds sampled rows too, and each row's draws depend on its own seed only, not on its
neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria


@dataclass(frozen=True)
class Sampling:
    """How one answer is decoded. Temperature 0 is greedy; ``top_logprobs`` alternatives are reported a token."""

    max_tokens: int = 16
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    top_logprobs: int = 0


class RowSampler(LogitsProcessor):
    """Leaves greedy rows alone and perturbs sampled rows so that their argmax is a sample."""

    def __init__(self, samplings: Sequence[Sampling]) -> None:
        self._rows = [(row, s, _generator(s.seed)) for row, s in enumerate(samplings) if s.temperature > 0]

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """``input_ids`` [B, T], ``scores`` [B, V] → [B, V]."""
        if not self._rows:
            return scores
        perturbed: Any = scores.float().clone()
        for row, sampling, generator in self._rows:
            logits = _top_p(perturbed[row] / sampling.temperature, sampling.top_p)
            noise = torch.rand(logits.shape, generator=generator).clamp_min_(1e-20).to(logits.device)
            perturbed[row] = logits - torch.log(-torch.log(noise))
        return perturbed  # type: ignore[no-any-return]


class RowStops(StoppingCriteria):
    """Ends each row at its own token limit or stop string."""

    def __init__(self, samplings: Sequence[Sampling], tokenizer: Any, prompt_length: int) -> None:
        self._limits = torch.tensor([s.max_tokens for s in samplings])
        self._stops = [(row, s.stop) for row, s in enumerate(samplings) if s.stop]
        self._tokenizer = tokenizer
        self._prompt_length = prompt_length

    def __call__(  # the signature is transformers'
        self,
        input_ids: torch.LongTensor,
        scores: torch.FloatTensor,
        **kwargs: Any,
    ) -> torch.BoolTensor:
        """``input_ids`` [B, T] → [B], true where the row is done."""
        made = input_ids.shape[1] - self._prompt_length
        done: Any = self._limits.to(input_ids.device) <= made
        for row, stops in self._stops:
            text = self._tokenizer.decode(input_ids[row, self._prompt_length :], skip_special_tokens=True)
            if any(stop in text for stop in stops):
                done[row] = True
        return done  # type: ignore[no-any-return]


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
