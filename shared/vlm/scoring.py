"""Log-probabilities of given answers by teacher forcing."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from shared.vlm.generation import Collate
from shared.vlm.loading import LoadedModel
from shared.vlm.prompting import Encoded, answer_ids, collate


@dataclass(frozen=True)
class Score:
    """Per-token log-probabilities (nats) of ``answer`` and its end token, given a prompt."""

    answer: str
    tokens: tuple[str, ...]
    logprobs: tuple[float, ...]

    @property
    def total(self) -> float:
        return sum(self.logprobs)

    @property
    def mean(self) -> float:
        return self.total / len(self.logprobs)


def score_batch(
    loaded: LoadedModel, pairs: Sequence[tuple[Encoded, str]], *, collate: Collate = collate
) -> list[Score]:
    """Scores of (prompt, answer) pairs in one forward pass; ``collate`` makes the model's inputs."""
    ids = [answer_ids(loaded, encoded, answer) for encoded, answer in pairs]
    values = token_logprobs(loaded, [encoded for encoded, _ in pairs], ids, collate=collate)
    return [
        Score(answer, tuple(loaded.tokenizer.decode([token]) for token in tokens), tuple(row))
        for (_, answer), tokens, row in zip(pairs, ids, values, strict=True)
    ]


@torch.inference_mode()
def token_logprobs(
    loaded: LoadedModel,
    prompts: Sequence[Encoded],
    continuations: Sequence[Sequence[int]],
    *,
    collate: Collate = collate,
) -> list[list[float]]:
    """Log-probability (nats) of each token of ``continuations``, given its prompt and what is before it."""
    features = collate(loaded, [extended(p, ids) for p, ids in zip(prompts, continuations, strict=True)])
    longest = max(len(ids) for ids in continuations)
    output: Any = loaded.model(**features, use_cache=False, **_only_last(loaded.model, longest + 1))
    return [_read(row, ids) for row, ids in zip(output.logits, continuations, strict=True)]


def _only_last(model: Any, places: int) -> dict[str, int]:
    """Ask for the logits of the last ``places`` tokens only, if the model can: a prompt's are not needed."""
    return {"logits_to_keep": places} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}


def extended(encoded: Encoded, answer: Sequence[int]) -> Encoded:
    """The prompt followed by the answer, as one sequence."""
    features = dict(encoded.features)
    shape = features["input_ids"].shape
    for name, value in encoded.features.items():
        if value.shape != shape:
            continue
        tail = (
            torch.tensor([list(answer)])
            if name == "input_ids"
            else torch.full((1, len(answer)), int(name == "attention_mask"))
        )
        features[name] = torch.cat([value, tail.to(value.dtype)], 1)
    return replace(encoded, features=features, length=encoded.length + len(answer))


def _read(logits: torch.Tensor, ids: Sequence[int]) -> list[float]:
    """``logits`` [T, V] of one left-padded row, which therefore ends with ``ids``."""
    predicted = logits[-len(ids) - 1 : -1].float().log_softmax(-1)
    values: list[float] = predicted.gather(1, torch.tensor(ids, device=predicted.device)[:, None])[:, 0].tolist()
    return values
