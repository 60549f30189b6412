"""How a reply ended is read before its text is."""

from __future__ import annotations

from typing import Any

import pytest

from shared.contracts import ChatResponse
from shared.vqa.reading.replies import Ending, Reply, first_reply, read_reply

THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}


def reply(finish_reason: str | None = "stop", **message: Any) -> Reply:
    choice = {"message": {"role": "assistant", **message}, "finish_reason": finish_reason}
    return first_reply(ChatResponse.model_validate({"choices": [choice]}))


@pytest.mark.parametrize(
    ("message", "finish_reason", "ending", "text"),
    [
        ({"content": "red"}, "stop", Ending.WHOLE, "red"),
        ({"content": "red"}, None, Ending.WHOLE, "red"),
        ({"content": "red"}, "eos_token", Ending.WHOLE, "red"),
        ({"content": "<think>hm</think>red"}, "stop", Ending.WHOLE, "red"),
        ({"content": "red", "reasoning_content": "hm"}, "stop", Ending.WHOLE, "red"),
        ({"content": "red", "reasoning": "hm"}, "stop", Ending.WHOLE, "red"),
        ({"content": "No parking between"}, "length", Ending.CUT_OFF, "No parking between"),
        ({"content": "No parking between"}, "MAX_TOKENS", Ending.CUT_OFF, "No parking between"),
        ({"content": "No parking", "reasoning": "hm"}, "length", Ending.CUT_OFF, "No parking"),
        ({"content": "<think>\nOkay, the user wants"}, "length", Ending.THINKING, ""),
        ({"content": "<think>\nOkay, the user wants"}, "stop", Ending.THINKING, ""),
        ({"content": None, "reasoning_content": "Okay"}, "length", Ending.THINKING, ""),
        ({"content": None, "reasoning": "Okay"}, "length", Ending.THINKING, ""),
        ({"content": ""}, "length", Ending.THINKING, ""),
        ({"content": "hm</think>"}, "length", Ending.THINKING, ""),
        ({"content": "<think>hm</think>\n"}, "stop", Ending.EMPTY, "\n"),
        ({"content": None, "reasoning": "The bus is red."}, "stop", Ending.EMPTY, ""),
        ({"content": None}, "stop", Ending.EMPTY, ""),
        ({}, "tool_calls", Ending.EMPTY, ""),
        ({"content": "<|im_end|>"}, "stop", Ending.EMPTY, "<|im_end|>"),
        ({"content": None, "refusal": "I cannot help."}, "stop", Ending.WITHHELD, ""),
        ({"content": ""}, "content_filter", Ending.WITHHELD, ""),
        ({"content": "red"}, "abort", Ending.BROKEN_OFF, "red"),
        ({"content": [{"type": "text", "text": "red"}]}, "stop", Ending.WHOLE, "red"),
        (
            {
                "content": [
                    THOUGHT,
                    {"type": "text", "text": "a"},
                ]
            },
            "stop",
            Ending.WHOLE,
            "a",
        ),
        (
            {"content": [THOUGHT]},
            "length",
            Ending.THINKING,
            "",
        ),
        ({"content": None, "reasoning": {"content": "hm"}}, "length", Ending.THINKING, ""),
    ],
)
def test_endings(message: dict[str, Any], finish_reason: str | None, ending: Ending, text: str) -> None:
    found = reply(finish_reason, **message)
    assert (found.ending, found.text) == (ending, text)
    assert found.whole == (ending is Ending.WHOLE)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (read_reply("No parking between", "length"), "was cut off after 24 tokens: 'No parking between'"),
        (read_reply("<think>hm", "length"), "still thinking after 24 tokens"),
        (read_reply(""), "is empty."),
        (read_reply("<think>hm</think>"), "nothing follows the model's reasoning"),
        (read_reply("", "content_filter"), "withheld by the model's server: content_filter"),
        (read_reply("red", "abort"), "broken off by the model's server: abort"),
    ],
)
def test_a_problem_says_what_happened(found: Reply, words: str) -> None:
    problem = found.problem("The teacher's answer", 24)
    assert problem.startswith("The teacher's answer ") and words in problem and problem.endswith(".")


@pytest.mark.parametrize(
    ("text", "settled"),
    [
        ("What is this? It is", "What is this?"),
        ("Question: What is this?\nAnswer: a b", "Question: What is this?\n"),
        ("Question: What is this?\nAnswer: red\nExpl", "Question: What is this?\nAnswer: red\n"),
        ("Question: What colour is", ""),
        ('{"question": "What is this?", "answer": "a b', '{"question": "What is this?", "answer": "a b'),
    ],
)
def test_what_a_cut_cannot_have_changed_is_settled(text: str, settled: str) -> None:
    assert read_reply(text, "length").settled == settled
    assert read_reply(text, "stop").settled == text


def test_a_response_without_choices_is_empty() -> None:
    assert first_reply(ChatResponse(choices=[])).ending is Ending.EMPTY


def test_our_own_answers_keep_their_shape() -> None:
    from shared.contracts import AnswerMessage

    assert AnswerMessage(content="red").model_dump() == {"role": "assistant", "content": "red"}
