"""Batched answers with log-probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from shared.vlm.loading import LoadedModel
from shared.vlm.prompting import Encoded, Prompt, collate, encode
from shared.vlm.sampling import RowSampler, RowStops, Sampling

_CONFIG: Any = GenerationConfig  # untyped


@dataclass(frozen=True)
class Alternative:
    token: str
    logprob: float


@dataclass(frozen=True)
class Token:
    """One generated token: log-probability under the unmodified distribution (temperature 1), in nats."""

    id: int
    text: str
    logprob: float
    top: tuple[Alternative, ...] = ()


@dataclass(frozen=True)
class Generated:
    """One answer. ``tokens`` are those of ``text``, without the end token; ``finish_reason`` is stop or length."""

    text: str
    tokens: tuple[Token, ...]
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


def generate(loaded: LoadedModel, prompts: Sequence[Prompt], samplings: Sequence[Sampling]) -> list[Generated]:
    """One answer a prompt, decoded together in one batch."""
    return generate_encoded(loaded, [encode(loaded, prompt) for prompt in prompts], samplings)


def generate_all(
    loaded: LoadedModel, prompts: Sequence[Prompt], sampling: Sampling, batch_size: int
) -> list[Generated]:
    """Answers to any number of prompts in batches of ``batch_size``, in order."""
    answers: list[Generated] = []
    for start in range(0, len(prompts), batch_size):
        batch = prompts[start : start + batch_size]
        answers += generate(loaded, batch, [sampling] * len(batch))
    return answers


@torch.inference_mode()
def generate_encoded(loaded: LoadedModel, batch: Sequence[Encoded], samplings: Sequence[Sampling]) -> list[Generated]:
    """As ``generate``, for prompts encoded before. All rows share one prefill and decode until the last is done."""
    features = collate(loaded, batch)
    length = int(features["input_ids"].shape[1])
    output = loaded.model.generate(
        **features,
        generation_config=_config(loaded, max(s.max_tokens for s in samplings)),
        logits_processor=LogitsProcessorList([RowSampler(samplings)]),
        stopping_criteria=StoppingCriteriaList([RowStops(samplings, loaded.tokenizer, length)]),
    )
    made = output.sequences[:, length:]
    logprobs = torch.stack([step.float().log_softmax(-1) for step in output.logits], 1)
    return [
        _answer(loaded, made[row], logprobs[row], sampling, batch[row].length) for row, sampling in enumerate(samplings)
    ]


def _config(loaded: LoadedModel, max_tokens: int) -> Any:
    return _CONFIG(
        max_new_tokens=max_tokens,
        do_sample=False,
        eos_token_id=list(loaded.eos_ids),
        pad_token_id=loaded.tokenizer.pad_token_id,
        return_dict_in_generate=True,
        output_logits=True,
    )


def _answer(
    loaded: LoadedModel, ids: torch.Tensor, logprobs: torch.Tensor, sampling: Sampling, prompt_tokens: int
) -> Generated:
    """Read one row: ``ids`` [T], ``logprobs`` [T, V]; what follows the end token or the row's own limit is padding."""
    kept = list(_until_end(ids.tolist(), loaded.eos_ids, sampling.max_tokens))
    ended = len(kept) < min(len(ids), sampling.max_tokens)
    tokens = [_token(loaded, token, logprobs[place], sampling.top_logprobs) for place, token in enumerate(kept)]
    text = loaded.tokenizer.decode(kept, skip_special_tokens=True)
    stop = _first_stop(text, sampling.stop)
    if stop is not None:
        text = text[:stop]
    return Generated(
        text=text,
        tokens=tuple(tokens),
        finish_reason="stop" if ended or stop is not None else "length",
        prompt_tokens=prompt_tokens,
        completion_tokens=len(kept) + int(ended),
    )


def _until_end(ids: Sequence[int], eos_ids: Sequence[int], limit: int) -> Iterator[int]:
    for token in ids[:limit]:
        if token in eos_ids:
            return
        yield token


def _first_stop(text: str, stops: Sequence[str]) -> int | None:
    places = [text.find(stop) for stop in stops if stop in text]
    return min(places) if places else None


def _token(loaded: LoadedModel, token: int, logprobs: torch.Tensor, top: int) -> Token:
    best: Any = logprobs.topk(top) if top else None
    alternatives = (
        tuple(
            Alternative(loaded.tokenizer.decode([int(i)]), float(value))
            for value, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        )
        if best is not None
        else ()
    )
    return Token(token, loaded.tokenizer.decode([token]), float(logprobs[token]), alternatives)
