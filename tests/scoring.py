"""Scores of a model's answers, straight from the scoring that engines use."""

from __future__ import annotations

from collections.abc import Sequence

from shared.vlm.loading import LoadedModel
from shared.vlm.prompting import Prompt, encode
from shared.vlm.scoring import Score, score_batch


def score_answers(
    loaded: LoadedModel, prompts: Sequence[Prompt], answers: Sequence[Sequence[str]]
) -> list[list[Score]]:
    """Scores [prompt][answer], all in one batch: another batching rounds differently, by some 1e-4 nats."""
    pairs = [
        (encode(loaded, prompt), answer)
        for prompt, candidates in zip(prompts, answers, strict=True)
        for answer in candidates
    ]
    scores = iter(score_batch(loaded, pairs))
    return [[next(scores) for _ in candidates] for candidates in answers]
