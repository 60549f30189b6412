"""Tokens that a pair cost its teacher, as the server counted them."""

from __future__ import annotations

from services.parity.mining.pairs import NONE, Tokens
from shared.contracts import ChatResponse, Usage


def answered(usage: Usage | None) -> ChatResponse:
    return ChatResponse(id="c", model="teacher", created=0, choices=[], usage=usage)


def test_tokens_add_up_over_calls() -> None:
    one = Tokens.of(answered(Usage(prompt_tokens=7, completion_tokens=3, total_tokens=10)))
    assert one == Tokens(7, 3)
    assert one + one + NONE == Tokens(14, 6)


def test_a_server_that_counts_nothing_costs_nothing() -> None:
    assert Tokens.of(answered(None)) == NONE == Tokens(0, 0)
