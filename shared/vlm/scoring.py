"""Log-probabilities of given answers by teacher forcing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from shared.vlm.loading import LoadedModel
from shared.vlm.prompting import Encoded, Prompt, collate, encode


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


def answer_ids(loaded: LoadedModel, answer: str) -> list[int]:
    """The tokens that a chat answer consists of, with the token that ends it."""
    ids: list[int] = loaded.tokenizer(answer, add_special_tokens=False)["input_ids"]
    return [*ids, loaded.eos_ids[0]]


@torch.inference_mode()
def score_answers(
    loaded: LoadedModel, prompts: Sequence[Prompt], answers: Sequence[Sequence[str]]
) -> list[list[Score]]:
    """Scores [prompt][answer]; each prompt is encoded once, all its answers run in one batch."""
    scores: list[list[Score]] = []
    for prompt, candidates in zip(prompts, answers, strict=True):
        encoded = encode(loaded, prompt)
        ids = [answer_ids(loaded, answer) for answer in candidates]
        features = collate(loaded, [_extended(encoded, answer) for answer in ids])
        logits = loaded.model(**features, use_cache=False).logits.float()
        rows = zip(candidates, ids, logits, strict=True)
        scores.append([_score(loaded, answer, tokens, row) for answer, tokens, row in rows])
    return scores


def _extended(encoded: Encoded, answer: Sequence[int]) -> Encoded:
    """The prompt followed by the answer, as one sequence."""
    features = dict(encoded.features)
    shape = features["input_ids"].shape
    for name, value in encoded.features.items():
        if value.shape != shape:
            continue
        tail = (
            torch.tensor([answer])
            if name == "input_ids"
            else torch.full((1, len(answer)), int(name == "attention_mask"))
        )
        features[name] = torch.cat([value, tail.to(value.dtype)], 1)
    return replace(encoded, features=features, length=encoded.length + len(answer))


def _score(loaded: LoadedModel, answer: str, ids: Sequence[int], logits: torch.Tensor) -> Score:
    """``logits`` [T, V] of one left-padded row, which therefore ends with the answer."""
    predicted = logits[-len(ids) - 1 : -1].log_softmax(-1)
    values = predicted.gather(1, torch.tensor(ids, device=predicted.device)[:, None])[:, 0]
    texts = tuple(loaded.tokenizer.decode([token]) for token in ids)
    return Score(answer, texts, tuple(values.tolist()))
