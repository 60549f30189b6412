"""Whether an answer declines to answer, in the major languages.

A profile lists phrases (an answer that begins with one declines; a phrase of one word must stand alone), regular
expressions between slashes, and ``built_in`` for the patterns of `refusal_patterns`. All are compared without case,
accents and kinds of apostrophes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from shared.vqa.reading.refusal_patterns import LEADS, PATTERNS

BUILT_IN = "built_in"
LONGEST_READ = 400
_MARKS = re.compile("[\u0300-\u036f\u05b0-\u05c7\u0610-\u061a\u064b-\u0655\u0640\u200b-\u200f\u202a-\u202e\ufeff]")
_APOSTROPHES = str.maketrans("’‘ʼ´`＇‛", "'''''''")
_LETTERS = str.maketrans("يكىı", "یکیi")
_EDGES = " \t.。．!！…*_\"“”„«»「」'()[]。،,"


def comparable(text: str) -> str:
    """The text without case, accents, kinds of apostrophes and white space around it."""
    text = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES).casefold()
    text = _MARKS.sub("", unicodedata.normalize("NFD", text))
    return " ".join(unicodedata.normalize("NFC", text).translate(_LETTERS).split())


def declines(answer: str, refusals: Sequence[str]) -> bool:
    """Whether ``answer`` is one of ``refusals``, perhaps after an apology."""
    said = comparable(answer[:LONGEST_READ])
    bare = _without_lead(said)
    return any(_matches(said, bare, refusal) for refusal in refusals)


def check_refusal(refusal: str) -> str:
    """Returns ``refusal``. Raises ValueError if it is between slashes and not a regular expression."""
    if _is_pattern(refusal):
        try:
            _pattern(refusal[1:-1])
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
    return refusal


def _matches(said: str, bare: str, refusal: str) -> bool:
    if refusal == BUILT_IN:
        return any(pattern.match(text) for pattern in _built_in() for text in (said.strip(_EDGES), bare))
    if _is_pattern(refusal):
        return _pattern(refusal[1:-1]).match(said) is not None
    phrase = comparable(refusal).rstrip(".")
    if " " not in phrase:
        return said.rstrip(".") == phrase or re.match(rf"{re.escape(phrase)}\s*[.,;:(–-]", said) is not None
    return any(re.match(rf"{re.escape(phrase)}(?!\w)", text) for text in (said, bare))


def _without_lead(said: str) -> str:
    """The text after apologies and "as far as I can see"."""
    for _ in range(4):
        shorter = _leads().sub("", said.strip(_EDGES), count=1)
        if shorter == said:
            break
        said = shorter
    return said


def _is_pattern(refusal: str) -> bool:
    return len(refusal) > 2 and refusal.startswith("/") and refusal.endswith("/")


@lru_cache(maxsize=256)
def _pattern(source: str) -> re.Pattern[str]:
    return re.compile(comparable_pattern(source))


@lru_cache(maxsize=1)
def _built_in() -> tuple[re.Pattern[str], ...]:
    return tuple(_pattern(source) for sources in PATTERNS.values() for source in sources)


@lru_cache(maxsize=1)
def _leads() -> re.Pattern[str]:
    lead = rf"(?:{'|'.join(LEADS)})[\s,;:.!，。、،–-]*"
    return re.compile(
        comparable_pattern(rf"{lead}(?:(?:but|however|aber|mais|pero|ma|mas|maar|но|但是?|ですが|が)[\s,，]+)?")
    )


def comparable_pattern(source: str) -> str:
    """A pattern in the form of `comparable`; classes such as ``\\W`` keep their case."""
    parts = re.split(r"(\\[A-Z])", source)
    return "".join(part if re.fullmatch(r"\\[A-Z]", part) else _without_case(part) for part in parts)


def _without_case(part: str) -> str:
    text = unicodedata.normalize("NFKC", part).translate(_APOSTROPHES).casefold()
    return unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFD", text))).translate(_LETTERS)
