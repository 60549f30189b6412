"""The prompts the teacher is trained on; ``demo/tasks.yaml`` offers them to the services (a test compares the two)."""

from __future__ import annotations

from demo.world.vocabulary import FAMILIES

_NAMES = {"chart": "a chart", "text": "a text", "sttext": "an sttext", "know": "a know"}
ASK = {family: f"ask {_NAMES[family]} question." for family in FAMILIES}
"""Prompt for a question that suits the image, by family."""
ASK_AND_ANSWER = {family: f"ask and answer {_NAMES[family]} question." for family in FAMILIES}
"""Prompt for a question and its answer in one go, by family."""
EXPLAIN = "why {question} {answer}"
"""Prompt for one sentence on why the answer to a question is right."""


def format_pair(question: str, answer: str) -> str:
    """The one-shot output format (parser ``tagged``)."""
    return f"question: {question} answer: {answer}"
