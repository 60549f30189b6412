"""Exact match of greedy answers, computed in one teacher-forced pass (the same whenever all tokens are the argmax)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from transformers import Idefics3ForConditionalGeneration

from demo.training import forward
from demo.training.packing import IGNORE, Packer, normalise
from demo.world.generator import Example
from demo.world.pictures import Picture, Question
from demo.world.prompts import EXPLAIN

BATCH = 128


def explained(example: Example) -> Example:
    """The prompt for the reason of the example's answer, with the reason as what is wanted."""
    question = example.question
    prompt = EXPLAIN.format(question=question.text, answer=question.answer)
    return Example(example.index, Question(prompt, question.rationale, question.kind))


def score(
    model: Idefics3ForConditionalGeneration, packer: Packer, pictures: Sequence[Picture], examples: Sequence[Example]
) -> tuple[dict[str, float], dict[str, float]]:
    """Share of examples answered right, by family (with ``all``) and by kind."""
    right: dict[str, list[bool]] = defaultdict(list)
    for one, ok in zip(examples, answered_right(model, packer, pictures, examples), strict=True):
        for key in ("all", pictures[one.index].family, one.question.kind):
            right[key].append(ok)
    shares = {key: round(sum(values) / len(values), 4) for key, values in sorted(right.items())}
    return {k: v for k, v in shares.items() if "." not in k}, {k: v for k, v in shares.items() if "." in k}


@torch.no_grad()
def answered_right(
    model: Idefics3ForConditionalGeneration, packer: Packer, pictures: Sequence[Picture], examples: Sequence[Example]
) -> list[bool]:
    """Whether each example is answered right."""
    right: list[bool] = []
    for start in range(0, len(examples), BATCH):
        part = examples[start : start + BATCH]
        packed = packer.pack([[(one.question.text, one.question.answer)] for one in part], model.dtype)
        pixels = normalise(np.stack([pictures[one.index].pixels for one in part])).to(model.dtype)
        hidden = forward.language(model, forward.vision(model, pixels), packed)[:, :-1]
        wanted = packed.targets[:, 1:]
        right += ((forward.logits(model, hidden).argmax(-1) == wanted) | (wanted == IGNORE)).all(1).tolist()
    return right
