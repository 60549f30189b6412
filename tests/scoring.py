"""Scores of a model's answers, straight from the scoring that engines use."""

from __future__ import annotations

from collections.abc import Sequence

from shared.vlm.loading import LoadedModel
from shared.vlm.prompting import Prompt, encode
from shared.vlm.scoring import Score, score_batch


def score_answers(
    loaded: LoadedModel, prompts: Sequence[Prompt], answers: Sequence[Sequence[str]]
) -> list[list[Score]]:
    """Scores [prompt][answer], one batch a prompt."""
    return [
        score_batch(loaded, [(encode(loaded, prompt), answer) for answer in candidates])
        for prompt, candidates in zip(prompts, answers, strict=True)
    ]
