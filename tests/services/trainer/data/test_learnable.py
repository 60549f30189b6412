"""A text that a tokenizer cannot learn leaves the training, and takes nothing else along."""

from __future__ import annotations

import logging
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from services.trainer.data.dataset import Sample, TrainingSet
from services.trainer.data.learnable import leave_out_unlearnable
from tests.tiny_tokenizers import build_tokenizer


@pytest.fixture(scope="module")
def loaded() -> Any:
    """With special tokens that are ordinary pieces of the vocabulary too: ``<s>``, ``</s>`` and ``<pad>``."""
    return SimpleNamespace(tokenizer=build_tokenizer("unigram"))


def sample(number: int, answer: str) -> Sample:
    return Sample(f"p{number}", "image", None, "chart", "what?", answer)


def test_answers_that_cannot_be_text_are_left_out_and_named(loaded: Any, caplog: pytest.LogCaptureFixture) -> None:
    answers = ["red", "the </s> tag", "the <image> tag", "<pad>", "blue", "a <s>", "a < b"]
    data = TrainingSet(tuple(sample(number, answer) for number, answer in enumerate(answers)), 4)
    with caplog.at_level(logging.WARNING):
        kept = leave_out_unlearnable(data, loaded)
    assert [item.answer for item in kept.samples] == ["red", "the <image> tag", "blue", "a < b"]
    assert (kept.disparity, kept.replay) == (2, 2)
    assert "3 pairs are left out" in caplog.text and "p1: 'the </s> tag'" in caplog.text


def test_other_texts_are_left_out_alone(loaded: Any) -> None:
    item = replace(
        sample(0, "red"), votes=("red", "</s>", "blue"), rationale="since <s> is red", student_answer="<pad>"
    )
    (kept,) = leave_out_unlearnable(TrainingSet((item,), 1), loaded).samples
    assert (kept.votes, kept.rationale, kept.student_answer) == (("red", "blue"), None, None)


def test_an_answer_without_tokens_is_left_out(loaded: Any) -> None:
    kept = leave_out_unlearnable(TrainingSet((sample(0, "\u200b"), sample(1, "red"), sample(2, "")), 2), loaded)
    assert kept.samples[-1].answer == "red" and kept.disparity == len(kept.samples)


def test_a_set_that_can_be_learned_stays_as_it_is(loaded: Any) -> None:
    data = TrainingSet((sample(0, "red"), sample(1, "the <end_of_utterance>")), 1)
    assert leave_out_unlearnable(data, loaded) == data
