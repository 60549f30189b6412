"""Pictures in any number: one at a time from a seeded generator, or a pile of all families."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from demo.world.boards import draw_scene_text, draw_text
from demo.world.charts import draw_chart
from demo.world.pictures import Picture, Question, choose_questions
from demo.world.things import draw_thing
from demo.world.vocabulary import FAMILIES, REFUSAL, Split

_DRAW: dict[str, Callable[[Random, Split], Picture]] = {
    "chart": draw_chart,
    "text": draw_text,
    "sttext": draw_scene_text,
    "know": draw_thing,
}


@dataclass(frozen=True)
class Example:
    """A labelled question about the picture at ``index`` of its pile."""

    index: int
    question: Question


def draw(family: str, rng: Random, split: Split) -> Picture:
    """One picture of ``family`` (KeyError if there is no such family)."""
    return _DRAW[family](rng, split)


def pile(count: int, seed: int, split: Split, families: Sequence[str] = FAMILIES) -> Iterator[Picture]:
    """``count`` pictures, the families in turn; picture i depends only on ``seed``, ``split``, ``families`` and i."""
    for index in range(count):
        yield draw(families[index % len(families)], Random(f"{split}-{seed}-{index}"), split)


def labelled(pictures: Sequence[Picture], seed: int, questions_each: int = 2) -> list[Example]:
    """``questions_each`` questions that apply to each picture, all kinds of a family as often as they apply."""
    return [
        Example(index, question)
        for index, picture in enumerate(pictures)
        for question in choose_questions(picture.questions, questions_each, Random(f"questions-{seed}-{index}"))
    ]


def false_premise(picture: Picture, others: Sequence[Picture], rng: Random, tries: int = 8) -> Question | None:
    """A question that suits one of ``others`` but not ``picture`` (None if ``tries`` draws find none)."""
    applies = {question.text for question in picture.questions}
    for _ in range(tries):
        question = choose_questions(rng.choice(others).questions, 1, rng)[0]
        if question.text not in applies:
            return Question(question.text, REFUSAL, f"{picture.family}.refusal")
    return None
