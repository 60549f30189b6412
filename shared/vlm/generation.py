"""Batched answers with log-probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from shared.vlm.loading import LoadedModel
from shared.vlm.prompting import Encoded, Prompt, collate, encode
from shared.vlm.rows import DecodingRow, Generated, Listener, Piece, RowStops, Token, TopToken
from shared.vlm.sampling import RowSampler, Sampling

__all__ = ["Generated", "Listener", "Piece", "Token", "TopToken", "generate", "generate_encoded"]

Collate = Callable[[LoadedModel, Sequence[Encoded]], Mapping[str, Any]]
_CONFIG: Any = GenerationConfig  # untyped


def generate(loaded: LoadedModel, prompts: Sequence[Prompt], samplings: Sequence[Sampling]) -> list[Generated]:
    """One answer per prompt, all decoded together in one batch."""
    return generate_encoded(loaded, [encode(loaded, prompt) for prompt in prompts], samplings)


@torch.inference_mode()
def generate_encoded(
    loaded: LoadedModel,
    batch: Sequence[Encoded],
    samplings: Sequence[Sampling],
    listeners: Sequence[Listener] | None = None,
    *,
    collate: Collate = collate,
) -> list[Generated]:
    """Like ``generate``, for encoded prompts. All rows share one prefill and decode until the last is done.

    ``listeners`` (one per row) get each answer as it grows and when it is complete, before the whole batch is.
    ``collate`` makes the model's inputs.
    """
    sampler = RowSampler(samplings)
    followed: Sequence[Listener | None] = listeners or [None] * len(batch)
    rows = [
        DecodingRow(loaded, sampling, encoded.length, listener)
        for encoded, sampling, listener in zip(batch, samplings, followed, strict=True)
    ]
    loaded.model.generate(
        **collate(loaded, batch),
        generation_config=_config(loaded, max(s.max_tokens for s in samplings)),
        logits_processor=LogitsProcessorList([sampler]),
        stopping_criteria=StoppingCriteriaList([RowStops(sampler, rows)]),
    )
    return [row.answer() for row in rows]


def _config(loaded: LoadedModel, max_tokens: int) -> Any:
    """Plain decoding: additions from a model's generation config (a repetition penalty) distort log-probabilities."""
    return _CONFIG(
        max_new_tokens=max_tokens,
        do_sample=False,
        repetition_penalty=1.0,
        eos_token_id=list(loaded.eos_ids),
        pad_token_id=loaded.tokenizer.pad_token_id,
    )
