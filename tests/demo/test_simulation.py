from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest
import torch

from demo.answering import Answerer
from demo.simulation import learn as learning
from demo.simulation.learn import IGNORE, Settings, learn
from demo.simulation.pairs import SimulatedPair, draw_pile, identify, label_accuracy

STUDENT = Path("demo/models/student")


@pytest.fixture(scope="module")
def student() -> Answerer:
    return Answerer(STUDENT)


def true_pairs(images: int) -> list[SimulatedPair]:
    return [
        SimulatedPair(index, question.text, question.answer)
        for index, picture in enumerate(draw_pile(images, 5))
        for question in picture.questions[:2]
    ]


def test_a_deck_deals_all_pairs_before_any_comes_again() -> None:
    pairs = true_pairs(4)
    deck = learning._Deck(pairs, Random(0))
    dealt = Counter((pair.index, pair.question) for pair in (deck.next() for _ in range(2 * len(pairs))))
    assert set(dealt.values()) == {2}


def test_replay_is_spread_over_the_families() -> None:
    pictures = draw_pile(16, 5)
    pairs = true_pairs(16)
    lopsided = [pair for pair in pairs if pictures[pair.index].family == "chart"] * 10 + pairs
    deck = learning._BalancedDeck(lopsided, pictures, Random(0))
    dealt = Counter(pictures[deck.next().index].family for _ in range(800))
    assert min(dealt.values()) > 140


def test_only_the_answer_is_learned(student: Answerer) -> None:
    pairs = true_pairs(4)
    labels = learning._inputs(student, draw_pile(4, 5), pairs)["labels"]
    for row, pair in zip(labels, pairs, strict=True):
        assert student.processor.tokenizer.decode(row[row != IGNORE]) == f"{pair.teacher}<end_of_utterance>"


def test_learning_lowers_the_loss_and_a_frozen_vision_tower_stays(student: Answerer) -> None:
    pictures, pairs = draw_pile(8, 5), true_pairs(8)
    learner = Answerer(STUDENT)
    inputs = learning._inputs(learner, pictures, pairs)
    with torch.no_grad():
        before = learner.model(**inputs).loss.item()
    learn(learner, pictures, pairs, [], Settings(1e-3, 8, 12, freeze_vision=True), seed=0)
    with torch.no_grad():
        after = learner.model(**inputs).loss.item()
    assert after < before
    was, now = student.model.state_dict(), learner.model.state_dict()
    moved = {name for name in was if not torch.equal(was[name], now[name])}
    assert moved
    assert not any("vision_model" in name for name in moved)


def test_a_student_agrees_with_itself(student: Answerer) -> None:
    pictures, pairs = draw_pile(4, 5), true_pairs(4)
    own = student.answer([pictures[pair.index].pixels for pair in pairs], [pair.question for pair in pairs])
    pairs = [SimulatedPair(pair.index, pair.question, answer) for pair, answer in zip(pairs, own, strict=True)]
    disagreeing, agreeing = identify(student, student, pictures, pairs, votes=1)
    assert not disagreeing
    assert len(agreeing) == len(pairs)
    right = sum(pictures[pair.index].truth(pair.question) == answer for pair, answer in zip(pairs, own, strict=True))
    assert label_accuracy(pictures, agreeing) == pytest.approx(right / len(pairs))
