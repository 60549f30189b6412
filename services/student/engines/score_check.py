"""Whether scores can be trusted. Log-probabilities have been reported out of step with their tokens where a prompt has
images, so every engine computes a few scores in a second way and compares them before it gives any.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from shared.vlm.loading import LoadedModel
from shared.vlm.prompting import answer_ids, collate, encode, question_prompt
from shared.vlm.scoring import extended, score_batch

QUESTIONS = ("what is this?", "look again: what is this, where is it, and what is it not?")
ANSWERS = ("something grey", "no")
TOLERANCE = {torch.float32: 1e-3}
COARSE = 0.25
"""For 16-bit floats. A score of the wrong token is off by whole nats."""


def grey_image() -> Image.Image:
    return Image.new("RGB", (96, 96), (120, 120, 120))


@torch.inference_mode()
def misalignment(loaded: LoadedModel) -> str:
    """Why scores of ``loaded`` are wrong; empty if they are right.

    Compares a left-padded batch of two prompts of different lengths, of which only the last logits are computed, with a
    forward pass over each sequence alone that computes all logits.
    """
    try:
        encoded = [encode(loaded, question_prompt(loaded, grey_image(), text)) for text in QUESTIONS]
        scores = score_batch(loaded, list(zip(encoded, ANSWERS, strict=True)))
        for prompt, answer, score in zip(encoded, ANSWERS, scores, strict=True):
            ids = answer_ids(loaded, prompt, answer)
            whole: Any = loaded.model(**collate(loaded, [extended(prompt, ids)]), use_cache=False)
            logits = whole.logits[0].float()
            if len(logits) != prompt.length + len(ids):
                return f"the model has {len(logits)} logits for {prompt.length + len(ids)} tokens"
            chosen = logits.log_softmax(-1)[prompt.length - 1 : -1]
            wanted = [float(row[token]) for row, token in zip(chosen, ids, strict=True)]
            if (worst := largest_gap(score.logprobs, wanted)) > TOLERANCE.get(loaded.model.dtype, COARSE):
                return f"the answer {answer!r} is scored {worst:.3g} nats off a plain forward pass"
    except Exception as error:  # a family whose model or processor takes other inputs
        return f"the check itself failed ({type(error).__name__}: {error})"
    return ""


def largest_gap(found: Sequence[float], wanted: Sequence[float]) -> float:
    """Infinite if their numbers differ, or if one of them is NaN."""
    if len(found) != len(wanted):
        return float("inf")
    gaps = [abs(a - b) for a, b in zip(found, wanted, strict=True)]
    return max(gap if gap == gap else float("inf") for gap in gaps)
