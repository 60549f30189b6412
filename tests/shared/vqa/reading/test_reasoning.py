"""Reasoning is told apart from the answer by the markers of public models."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.vqa.parsing import clean_answer, parse_pair, parse_question
from shared.vqa.reading.reasoning import set_apart

UNFINISHED = [
    "<think>\nOkay, the user wants",
    "<think>It is a red",
    "  <think>",
    "<Think>hm",
    "<thinking>hm",
    "<thought>\nhm",
    "<reasoning>hm",
    "<reflection>hm",
    "<analysis>hm",
    "<scratchpad>hm",
    "<seed:think>hm",
    "<mm:think>hm",
    "<ifm|think_fast>hm",
    "<think:opensource>hm",
    "<|think|>hm",
    "<|START_THINKING|>hm",
    "<|begin_of_thought|>hm",
    "[THINK]hm",
    "◁think▷hm",
    "<|channel|>analysis<|message|>We need",
    "<|channel>thought\nhm",
    "<unused94>thought\nhm",
    "analysisWe need to look",
    "Here's my thought process: hm",
    "<SUMMARY>The image shows",
    "<think>hm</think>\n<think>hm again",
    "Sure.\n<think>hm",
]
FINISHED = [
    "<think></think>\n\nRed",
    "<think>hm</think>Red",
    "hm, the bus is red</think>Red",
    "<think>hm <think> hm</think>Red",
    "<thinking>hm</thinking>Red",
    "<reasoning>x</reasoning>\nRed",
    "<thought>hm</thought>Red",
    "[THINK]hm[/THINK]Red",
    "◁think▷hm◁/think▷Red",
    "<|channel|>analysis<|message|>We<|end|><|start|>assistant<|channel|>final<|message|>Red<|return|>",
    "analysisWe need to look.assistantfinalRed",
    "<|channel>thought\nhm<channel|>Red",
    "<unused94>thought\nhm<unused95>Red",
    "<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>Red<|END_RESPONSE|>",
    "<|begin_of_thought|>hm<|end_of_thought|><|begin_of_solution|>Red<|end_of_solution|>",
    "Here's my thought process: hm\nHere's my response: Red",
    "<SUMMARY>a</SUMMARY><CAPTION>b</CAPTION><REASONING>c</REASONING><CONCLUSION>Red</CONCLUSION>",
    "<perception>a</perception><think>b</think><answer>Red</answer>",
    "<think>" + "hm " * 20_000 + "</think>Red",
]


@pytest.mark.parametrize("text", UNFINISHED)
def test_reasoning_that_does_not_end_says_nothing(text: str) -> None:
    thought = set_apart(text)
    assert thought.unfinished and thought.reasoned and thought.said == ""
    assert clean_answer(text) == "" and parse_question(text, "tagged") is None


@pytest.mark.parametrize("text", FINISHED, ids=lambda text: text[:30])
def test_the_answer_is_what_follows(text: str) -> None:
    assert clean_answer(text) == "Red"
    assert not set_apart(text).unfinished


@pytest.mark.parametrize("text", ["<think>hm</think>", "</think>", "<think>hm</think>\n \n", "[THINK]a[/THINK]"])
def test_reasoning_with_nothing_after_it_says_nothing(text: str) -> None:
    thought = set_apart(text)
    assert thought.reasoned and not thought.said.strip() and not thought.unfinished


@pytest.mark.parametrize("text", ["the tag <think>", "Think", "thinking cap", "analysis of the data", "a [think] b"])
def test_a_marker_inside_a_line_is_ordinary_text(text: str) -> None:
    assert clean_answer(text) == text
    assert set_apart(text).said == text


@given(st.text(alphabet="abc .\n", max_size=40), st.text(alphabet="abc ", min_size=1, max_size=20))
def test_whatever_was_thought_the_answer_comes_back(thought: str, answer: str) -> None:
    assert set_apart(f"<think>{thought}</think>{answer}").said == answer
    assert set_apart(f"<think>{thought}").said == ""


def test_questions_and_pairs_are_read_after_the_reasoning() -> None:
    text = "[THINK]Question: a? Answer: b[/THINK]Question: What is it?\nAnswer: red"
    assert parse_pair(text, "tagged") == ("What is it?", "red")
    assert parse_question(text, "tagged") == "What is it?"
