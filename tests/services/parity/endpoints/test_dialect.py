"""What an endpoint's refusals teach about its dialect of the chat format."""

from __future__ import annotations

from typing import Any

import pytest

from services.parity.endpoints.dialect import Dialect
from shared.contracts import ChatRequest

REQUEST = ChatRequest.model_validate(
    {
        "model": "teacher",
        "messages": [{"role": "user", "content": "?"}],
        "logprobs": True,
        "top_logprobs": 5,
        "max_tokens": 16,
        "temperature": 0.0,
        "top_p": 0.9,
        "seed": 7,
        "n": 3,
    }
)


@pytest.mark.parametrize(
    ("refusal", "changes"),
    [
        ("logprobs is not supported with this model", {"logprobs": False, "top_logprobs": None}),
        (
            "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
            {"max_tokens": None, "max_completion_tokens": 16},
        ),
        ("Unknown parameter: seed", {"seed": None}),
        ("top_p is fixed for this model", {"top_p": 1.0}),
        ("'temperature' does not support 0.0; only the default (1) is supported", {"temperature": 1.0}),
        ("'n' must be 1", {"n": 1}),
        ("n > 1 is not supported", {"n": 1}),
        ("multiple completions are not available", {"n": 1}),
    ],
)
def test_a_refusal_is_answered_with_the_change_that_it_asks_for(refusal: str, changes: dict[str, Any]) -> None:
    dialect = Dialect()
    rule = dialect.rule_for(REQUEST, refusal)
    assert rule is not None
    assert rule.change(REQUEST) == REQUEST.model_copy(update=changes)
    assert dialect.say(REQUEST) == REQUEST, "a rule that has not helped yet is not known"
    dialect.learn(rule)
    dialect.learn(rule)
    assert dialect.known == [rule]
    assert dialect.say(REQUEST) == rule.change(REQUEST)


@pytest.mark.parametrize("refusal", ["The image is too large.", "content policy", "no such deployment: seedling", ""])
def test_another_refusal_teaches_nothing(refusal: str) -> None:
    assert Dialect().rule_for(REQUEST, refusal) is None


def test_what_changes_nothing_or_is_known_is_not_tried() -> None:
    dialect = Dialect()
    plain = REQUEST.model_copy(update={"seed": None})
    assert dialect.rule_for(plain, "Unknown parameter: seed") is None
    rule = dialect.rule_for(REQUEST, "Unknown parameter: seed")
    assert rule is not None
    dialect.learn(rule)
    assert dialect.rule_for(REQUEST, "Unknown parameter: seed") is None


def test_several_lessons_add_up() -> None:
    dialect = Dialect()
    for refusal in ("logprobs", "seed", "temperature"):
        rule = dialect.rule_for(REQUEST, refusal)
        assert rule is not None
        dialect.learn(rule)
    said = dialect.say(REQUEST)
    assert (said.logprobs, said.seed, said.temperature, said.n, said.top_p) == (False, None, 1.0, 3, 0.9)
