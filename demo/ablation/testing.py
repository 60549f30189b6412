"""Labelled questions of a split that no arm trains on, and how one student answers them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from demo.answering import Answerer
from demo.training import scoring
from demo.training.packing import Packer
from demo.world.generator import Example, labelled, pile
from demo.world.pictures import Picture
from demo.world.vocabulary import FAMILIES, Split

EVALUATION_SEED = 20_260


@dataclass(frozen=True)
class Questions:
    pictures: list[Picture]
    examples: list[Example]

    @property
    def families(self) -> list[str]:
        """The family of each question."""
        return [self.pictures[one.index].family for one in self.examples]

    @property
    def kinds(self) -> list[str]:
        return [one.question.kind for one in self.examples]


@dataclass(frozen=True)
class Scores:
    """Shares, 0-1. ``forgotten``: of the questions that the untrained student had right, how many are wrong now."""

    overall: float
    families: dict[str, float]
    forgotten: float
    forgotten_by_family: dict[str, float]


def questions(split: Split, images: int) -> Questions:
    """Two questions about each of ``images`` pictures; always the same ones."""
    pictures = list(pile(images, EVALUATION_SEED, split))
    return Questions(pictures, labelled(pictures, EVALUATION_SEED))


def answered_right(folder: Path, asked: Questions) -> list[bool]:
    """Exact match of greedy answers, one a question; by teacher forcing, which takes a fraction of the time."""
    model = Answerer(folder)
    return scoring.answered_right(model.model, Packer(model.processor.tokenizer), asked.pictures, asked.examples)


def score(right: list[bool], before: list[bool], families: list[str]) -> Scores:
    """``right`` and ``before`` after and before training, in the order of ``families``."""
    by_family: dict[str, list[bool]] = defaultdict(list)
    lost: dict[str, list[bool]] = defaultdict(list)
    for now, then, family in zip(right, before, families, strict=True):
        by_family[family].append(now)
        if then:
            lost[family].append(not now)
    return Scores(
        overall=_share(right),
        families={family: _share(by_family[family]) for family in FAMILIES},
        forgotten=_share([one for family in lost.values() for one in family]),
        forgotten_by_family={family: _share(lost[family]) for family in FAMILIES},
    )


def _share(values: list[bool]) -> float:
    return sum(values) / len(values) if values else 0.0
