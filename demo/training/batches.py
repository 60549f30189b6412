"""Training batches: a pure function of recipe, stage, step and process, so that a resumed run sees the same data."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from torch import Tensor

from demo.training.packing import QuestionAnswer, normalise
from demo.training.recipe import Recipe, Stage
from demo.world.generator import draw, false_premise
from demo.world.pictures import Picture, Question, choose_questions
from demo.world.prompts import ASK, ASK_AND_ANSWER, EXPLAIN, format_pair
from demo.world.vocabulary import FAMILIES, Split


@dataclass(frozen=True)
class Batch:
    """``pixels``: bfloat16 [B, 3, 96, 96]; ``dense``: long [B, 7, 8, 8]; ``rows``: questions and answers by image."""

    pixels: Tensor
    dense: Tensor
    rows: list[list[QuestionAnswer]]


def make_batch(recipe: Recipe, stage: Stage, step: int, rank: int) -> Batch:
    """The batch of one process in one step of a stage; ``rows`` is empty in a ``warm`` one."""
    rng = Random(f"{recipe.name}-{recipe.seed}-{stage.name}-{step}-{rank}")
    families = rng.choices(FAMILIES, stage.families, k=stage.batch)
    pictures = [_taught(draw(family, rng, Split.TRAIN), recipe) for family in families]
    rows = [] if stage.is_warm else [_row(recipe, stage, picture, pictures, rng) for picture in pictures]
    pixels = normalise(np.stack([picture.pixels for picture in pictures])).bfloat16()
    dense = torch.from_numpy(np.stack([picture.dense for picture in pictures])).long()
    return Batch(pixels, dense, rows)


def _taught(picture: Picture, recipe: Recipe) -> Picture:
    taught = tuple(question for question in picture.questions if question.kind not in recipe.withheld)
    return Picture(picture.family, picture.pixels, taught, picture.dense)


def _row(recipe: Recipe, stage: Stage, picture: Picture, others: list[Picture], rng: Random) -> list[QuestionAnswer]:
    chosen = choose_questions(picture.questions, recipe.questions, rng, stage.answer_weights)
    for index in range(len(chosen)):
        if rng.random() < stage.refusal_share:
            chosen[index] = _false_premise(picture, others, rng) or chosen[index]
    row = [(question.text, question.answer) for question in chosen]
    if rng.random() < stage.ask_share:
        row.append((ASK[picture.family], choose_questions(picture.questions, 1, rng)[0].text))
    if rng.random() < stage.ask_and_answer_share:
        question = choose_questions(picture.questions, 1, rng)[0]
        row.append((ASK_AND_ANSWER[picture.family], format_pair(question.text, question.answer)))
    for question in choose_questions(picture.questions, stage.explained, rng):
        row.append((EXPLAIN.format(question=question.text, answer=question.answer), question.rationale))
    return row


def _false_premise(picture: Picture, others: list[Picture], rng: Random) -> Question | None:
    kin = [other for other in others if other.family == picture.family]
    return false_premise(picture, kin if rng.random() < 0.75 else others, rng)
