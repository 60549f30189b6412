"""What a generated image is: pixels, questions with answers, and dense labels for the vision warm start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from demo.world.vocabulary import REFUSAL, Split


@dataclass(frozen=True)
class Question:
    """A question that applies to an image; ``kind`` is ``<family>.<type>``, ``rationale`` says what in the image, or
    known about it, makes ``answer`` right.
    """

    text: str
    answer: str
    kind: str
    rationale: str = ""


@dataclass(frozen=True)
class Picture:
    """A generated image.

    ``pixels``: uint8 [96, 96, 3]. ``dense``: uint8 [7, 8, 8], one label a patch in each channel of
    `demo.world.canvas.CHANNELS`. ``questions``: every question that applies, in every wording.
    """

    family: str
    pixels: NDArray[np.uint8]
    questions: tuple[Question, ...]
    dense: NDArray[np.uint8]

    def truth(self, question: str) -> str:
        """The answer to any question: all that apply are listed, so any other question is unanswerable."""
        wanted = " ".join(question.split())
        return next((item.answer for item in self.questions if item.text == wanted), REFUSAL)


def choose_questions(
    questions: Sequence[Question], count: int, rng: Random, weights: dict[str, float] | None = None
) -> list[Question]:
    """At most ``count`` different questions, spread over the kinds (``weights`` by kind, 1 if not given)."""
    by_kind: dict[str, list[Question]] = {}
    for item in questions:
        by_kind.setdefault(item.kind, []).append(item)
    chosen: list[Question] = []
    while by_kind and len(chosen) < count:
        kinds = list(by_kind)
        kind = rng.choices(kinds, [(weights or {}).get(kind, 1.0) for kind in kinds])[0]
        chosen.append(by_kind[kind].pop(rng.randrange(len(by_kind[kind]))))
        if not by_kind[kind]:
            del by_kind[kind]
    return chosen


def combination_split(*key: int) -> Split:
    """The split that a combination of drawn values belongs to: one tenth each for dev and test."""
    digest = 0
    for part in key:
        digest = (digest * 31 + part * 7 + 3) % 10007
    return {0: Split.DEV, 1: Split.TEST}.get(digest % 10, Split.TRAIN)
