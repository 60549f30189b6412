"""When two answers, or two questions, are the same."""

from __future__ import annotations

import unicodedata
from typing import Literal

from shared.vqa.agreement import AS_WRITTEN, AgreementRule, agree
from shared.vqa.agreement.folding import caseless, fold

MatchMode = Literal["task", "paper"]


def match(
    prediction: str, answer: str, *, mode: MatchMode, rule: AgreementRule = AS_WRITTEN, question: str = ""
) -> bool:
    """Whether ``prediction`` gives ``answer`` to ``question``.

    ``task``: the two agree by the task's ``rule``. ``paper``: of the letters and digits alone, lower-cased, the answer
    is part of the prediction. An empty prediction or answer never matches.
    """
    if mode == "paper":
        wanted = _letters_and_digits(answer)
        return bool(wanted) and wanted in _letters_and_digits(prediction)
    return bool(prediction.strip() and answer.strip()) and agree(prediction, answer, rule, question)


def normalise_question(text: str) -> str:
    """A key under which rewordings in case, punctuation, spelling of characters and white space are one question."""
    folded = caseless(fold(text))
    words = " ".join("".join(char if _is_of_a_word(char) else " " for char in folded).split())
    return words or " ".join(text.split())


def _is_of_a_word(char: str) -> bool:
    """Letters and digits, and marks such as the vowel signs of Hindi, without which two words may look the same."""
    return unicodedata.category(char)[0] in "LNM"


def _letters_and_digits(text: str) -> str:
    return "".join(char for char in text.lower() if char.isalnum())
