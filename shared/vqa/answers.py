"""When two answers, or two questions, are the same."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

from shared.errors import InvalidInput
from shared.vqa.evalai import normalise_evalai
from shared.vqa.metrics import METRIC_NAMES, anls, plain, relaxed_accuracy

MatchMode = Literal["task", "paper"]
_NO_WORD = re.compile(r"[^\w\s]|_")


def normalise(text: str, metric: str) -> str:
    """The text as the task's metric compares it.

    ``vqa``: EvalAI's processing, unless that leaves nothing (the answer "A" is an article to it): then as ``exact``.
    ``exact``: lower case, white space collapsed, no closing period. ``anls``, ``relaxed``: the same with the period.
    Raises InvalidInput for an unknown metric.
    """
    if metric == "vqa":
        return normalise_evalai(text) or plain(text)
    if metric == "exact":
        return plain(text)
    if metric in METRIC_NAMES:
        return " ".join(text.lower().split())
    raise InvalidInput(f"There is no metric {metric!r}: use one of {', '.join(METRIC_NAMES)}.")


def match(prediction: str, answer: str, *, mode: MatchMode, metric: str) -> bool:
    """Whether ``prediction`` gives ``answer``.

    ``task``: normalised equality, or what the metric forgives: ``anls`` a similarity of at least 0.5, ``relaxed`` 5 %.
    ``paper``: of the letters and digits alone, lower-cased, the answer is part of the prediction.
    An empty prediction or answer never matches.
    """
    if mode == "paper":
        wanted = _letters_and_digits(answer)
        return bool(wanted) and wanted in _letters_and_digits(prediction)
    predicted, wanted = normalise(prediction, metric), normalise(answer, metric)
    if not predicted or not wanted:
        return False
    if predicted == wanted:
        return True
    if metric == "anls":
        return anls(predicted, [wanted]) > 0
    return metric == "relaxed" and relaxed_accuracy(predicted, [wanted]) > 0


def normalise_question(text: str) -> str:
    """A key under which rewordings in case, punctuation and white space are one question."""
    words = " ".join(_NO_WORD.sub(" ", unicodedata.normalize("NFKC", text).lower()).split())
    return words or " ".join(text.split())


def _letters_and_digits(text: str) -> str:
    return "".join(char for char in text.lower() if char.isalnum())
