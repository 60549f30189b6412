"""Accuracy of a model on the labelled world: ``python -m demo.evaluate --model demo/models/teacher``.

Exact match of greedy answers, by family; questions with a false premise (right answer: "unanswerable") are reported
apart, because a family's accuracy is about questions that apply.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from random import Random

import torch

from demo.answering import Answerer
from demo.world.generator import false_premise, labelled, pile
from demo.world.pictures import Picture, Question
from demo.world.vocabulary import FAMILIES, Split

TEST_SEED = 424_242
REFUSALS_SHARE = 5
"""One question with a false premise for this many images."""


def evaluate(
    model: Answerer, split: Split, images: int, seed: int, *, by_kind: bool = False
) -> dict[str, dict[str, float]]:
    """``{"families": {…}, "refusals": {…}, "kinds": {…}, "questions": {…}}``; shares are 0-1."""
    pictures = list(pile(images, seed, split))
    asked: list[tuple[int, Question]] = [(one.index, one.question) for one in labelled(pictures, seed)]
    asked += _false_premises(pictures, seed)
    answers = model.answer([pictures[index].pixels for index, _ in asked], [question.text for _, question in asked])
    right: dict[str, list[bool]] = defaultdict(list)
    for (index, question), answer in zip(asked, answers, strict=True):
        keys = [question.kind]
        if not question.kind.endswith(".refusal"):
            keys += ["all", pictures[index].family]
        for key in keys:
            right[key].append(answer == question.answer)
    shares = {key: round(sum(values) / len(values), 4) for key, values in sorted(right.items())}
    result = {
        "families": {key: shares[key] for key in ("all", *FAMILIES)},
        "refusals": {key: value for key, value in shares.items() if key.endswith(".refusal")},
        "questions": {key: float(len(right[key])) for key in ("all", *FAMILIES)},
    }
    if by_kind:
        result["kinds"] = {key: value for key, value in shares.items() if "." in key}
    return result


def _false_premises(pictures: list[Picture], seed: int) -> list[tuple[int, Question]]:
    rng = Random(f"false-premises-{seed}")
    found = []
    for index in range(0, len(pictures), REFUSALS_SHARE):
        kin = [other for other in pictures if other.family == pictures[index].family]
        question = false_premise(pictures[index], kin, rng)
        if question is not None:
            found.append((index, question))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m demo.evaluate", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face folder")
    parser.add_argument("--split", type=Split, choices=list(Split), default=Split.TEST)
    parser.add_argument("--images", type=int, default=1500, help="two questions are asked about each")
    parser.add_argument("--seed", type=int, default=TEST_SEED)
    parser.add_argument("--kinds", action="store_true", help="also by kind of question")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result = evaluate(Answerer(options.model), options.split, options.images, options.seed, by_kind=options.kinds)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
