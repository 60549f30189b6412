"""What an endpoint does not support, learned from its refusals: hosted models rarely support the whole format."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from shared.contracts import ChatRequest


@dataclass(frozen=True)
class Rule:
    """A request whose refusal matches ``refused`` may succeed after ``change``; ``lost`` says what is lost."""

    refused: re.Pattern[str]
    change: Callable[[ChatRequest], ChatRequest]
    lost: str


def _with(request: ChatRequest, **values: object) -> ChatRequest:
    return request.model_copy(update=values)


def _rename_max_tokens(request: ChatRequest) -> ChatRequest:
    longest = request.max_completion_tokens or request.max_tokens
    return _with(request, max_tokens=None, max_completion_tokens=longest)


RULES = (
    Rule(re.compile("logprobs"), lambda r: _with(r, logprobs=False, top_logprobs=None), "log-probabilities"),
    Rule(re.compile("max_completion_tokens"), _rename_max_tokens, "max_tokens, which has another name there"),
    Rule(re.compile(r"\bseed\b"), lambda r: _with(r, seed=None), "repeatable samples"),
    Rule(re.compile("top_p"), lambda r: _with(r, top_p=1.0), "top_p"),
    Rule(re.compile("temperature"), lambda r: _with(r, temperature=1.0), "greedy answers: all answers are sampled"),
    Rule(
        re.compile(r"""["'`]n["'`]|\bn\b ?(?:[=>:]|must|should|is)|multiple (?:choices|completions)"""),
        lambda r: _with(r, n=1),
        "several choices per request: they are requested one by one",
    ),
)


class Dialect:
    """The dialect of one endpoint. ``known`` grows by each rule that turned a refusal into an answer."""

    def __init__(self) -> None:
        self.known: list[Rule] = []

    def say(self, request: ChatRequest) -> ChatRequest:
        """The request in the form that this endpoint is known to accept."""
        for rule in self.known:
            request = rule.change(request)
        return request

    def rule_for(self, request: ChatRequest, refusal: str) -> Rule | None:
        """The first rule that matches the refusal of ``request`` and changes the request; None if there is none."""
        for rule in RULES:
            if rule not in self.known and rule.refused.search(refusal) and rule.change(request) != request:
                return rule
        return None

    def learn(self, rule: Rule) -> None:
        if rule not in self.known:
            self.known.append(rule)
