"""Pairs of a pile: the teacher asks and answers, the student answers, the teacher votes where they disagree."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from demo.answering import Answerer, Sampling
from demo.world.generator import pile
from demo.world.pictures import Picture
from demo.world.prompts import ASK
from demo.world.vocabulary import REFUSAL, Split


@dataclass(frozen=True)
class SimulatedPair:
    """One question about the picture at ``index`` of the pile, and who said what."""

    index: int
    question: str
    teacher: str
    student: str = ""
    votes: list[str] = field(default_factory=list)

    @property
    def vote_share(self) -> float:
        return self.votes.count(self.teacher) / len(self.votes) if self.votes else 0.0


def annotate(teacher: Answerer, pictures: Sequence[Picture], questions_each: int, seed: int) -> list[SimulatedPair]:
    """Pseudo Annotator, two steps: sampled questions without duplicates, then greedy answers (with refusals)."""
    torch.manual_seed(seed)
    indices = [index for index in range(len(pictures)) for _ in range(questions_each)]
    images = [pictures[index].pixels for index in indices]
    prompts = [ASK[pictures[index].family] for index in indices]
    asked = teacher.answer(images, prompts, sampling=Sampling(0.8, 0.9), max_new_tokens=24)
    unique = list(dict.fromkeys(zip(indices, asked, strict=True)))
    answers = teacher.answer([pictures[index].pixels for index, _ in unique], [question for _, question in unique])
    return [SimulatedPair(i, question, answer) for (i, question), answer in zip(unique, answers, strict=True)]


def identify(
    teacher: Answerer, student: Answerer, pictures: Sequence[Picture], pairs: Sequence[SimulatedPair], votes: int
) -> tuple[list[SimulatedPair], list[SimulatedPair]]:
    """Parity Identifier: pairs on which the two disagree (with the teacher's votes), and those on which they agree."""
    pairs = [pair for pair in pairs if pair.teacher != REFUSAL]
    answers = student.answer([pictures[pair.index].pixels for pair in pairs], [pair.question for pair in pairs])
    pairs = [replace(pair, student=answer) for pair, answer in zip(pairs, answers, strict=True)]
    disagreeing = [pair for pair in pairs if pair.student != pair.teacher]
    images = [pictures[pair.index].pixels for pair in disagreeing]
    questions = [pair.question for pair in disagreeing]
    rounds = [teacher.answer(images, questions, sampling=Sampling(1.0)) for _ in range(votes)]
    voted = [replace(pair, votes=list(cast)) for pair, *cast in zip(disagreeing, *rounds, strict=True)]
    return voted, [pair for pair in pairs if pair.student == pair.teacher]


def label_accuracy(pictures: Sequence[Picture], pairs: Sequence[SimulatedPair]) -> float:
    """Share of pairs whose teacher answer is the world's; a question that does not apply counts as wrong."""
    return sum(pictures[pair.index].truth(pair.question) == pair.teacher for pair in pairs) / max(1, len(pairs))


def load_or_annotate(
    cache: Path, teacher: Answerer, pictures: Sequence[Picture], each: int, seed: int
) -> list[SimulatedPair]:
    """`annotate`, kept in ``cache`` between runs."""
    if cache.exists():
        return [SimulatedPair(**row) for row in json.loads(cache.read_text())]
    pairs = annotate(teacher, pictures, each, seed)
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text(json.dumps([asdict(pair) for pair in pairs]))
    return pairs


def draw_pile(images: int, seed: int) -> list[Picture]:
    return list(pile(images, seed, Split.TRAIN))
