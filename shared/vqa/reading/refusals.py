"""Whether an answer declines to answer, in the major languages.

A profile lists phrases (an answer that begins with one declines; a phrase of one word must stand alone), regular
expressions between slashes, and ``built_in``. All are compared without case, accents and kinds of apostrophes.

``built_in`` looks at the shape of an answer, also after an apology ("Sorry, but") or a hedge ("Based on the image"):

- A phrase of `refusal_phrases` must be all of it, except for a place ("in the image") and an explanation ("unknown: the
  label is blurred").
- A pattern of `refusal_patterns` is a beginning that no other answer has.
- After an apology or a hedge it is enough to say that something is not there.

What may also be a title, a name or a sign counts as an answer. Mining asks the teacher about those
(`identifier.refusal_check`), but an answer that is taken for a refusal here is lost.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

from shared.vqa.reading.refusal_patterns import AFTER_APOLOGY, APOLOGIES, COPULAS, HEDGES, OPENINGS
from shared.vqa.reading.refusal_phrases import PHRASES, PLACES

BUILT_IN = "built_in"
LONGEST_READ = 400
_MARKS = re.compile("[\u0300-\u036f\u05b0-\u05c7\u0610-\u061a\u064b-\u0655\u0640\u200b-\u200f\u202a-\u202e\ufeff]")
_APOSTROPHES = str.maketrans("’‘ʼ´`＇‛", "'''''''")
_LETTERS = str.maketrans("يكىı", "یکیi")
_EDGES = " \t.。．!！…*_\"“”„«»「」'()[]<>。،,"
_WIDE = r"(?<=[^\x00-\u04ff])"  # after a letter of a script that needs no space
_BUT = ("but|however|aber|mais|pero|ma|mas|maar|но|ale|lakin|ama|لكن|ولكن|लेकिन|但是?|ですが|が|nhưng|tapi",)
_DEEPEST = 4
_FEW_WORDS = 4
_SHOWN = re.compile(
    r"\b(?:imag|immag|picture|photo|foto|text|blur|visib|shown|see\b|seen|read|resol|label|sign\b|sorry|sure|bild|unscharf|"
    r"sehen|sieht|lesbar|lesen|flou|afbeelding|zien|leer\b|ver\b|изображ|видн|чита)|صور|छवि|दिखा|图|圖|照片|看|文字|画像|写真|見|読|"
    r"이미지|사진|보이"
)


def comparable(text: str) -> str:
    """The text without case, accents, kinds of apostrophes and white space around it."""
    text = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES).casefold()
    text = _MARKS.sub("", unicodedata.normalize("NFD", text))
    return " ".join(unicodedata.normalize("NFC", text).translate(_LETTERS).split())


def declines(answer: str, refusals: Sequence[str]) -> bool:
    """Whether ``answer`` is one of ``refusals``, perhaps after an apology."""
    said = comparable(answer[:LONGEST_READ])
    bare, _ = _without_lead(said)
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
        return _has_shape(said)
    if _is_pattern(refusal):
        return _pattern(refusal[1:-1]).match(said) is not None
    phrase = comparable(refusal).rstrip(".")
    if " " not in phrase:
        return said.rstrip(".") == phrase or re.match(rf"{re.escape(phrase)}\s*[.,;:(–-]", said) is not None
    return any(re.match(rf"{re.escape(phrase)}(?!\w)", text) for text in (said, bare))


def _has_shape(said: str, depth: int = 0) -> bool:
    """Whether a comparable text has the shape of a refusal."""
    bare, excused = _without_lead(said)
    if any(_openings().match(text) or _is_phrase(text, depth) for text in {said.strip(_EDGES), bare}):
        return True
    return excused and _after_apology().match(bare) is not None


def _is_phrase(said: str, depth: int) -> bool:
    found = _phrases().match(said)
    if found is None:
        return False
    rest = found["rest"].strip(_EDGES + "?;:：，；–—-")
    return not rest or found["place"] is not None or _explains(found["rest"], rest, depth)


def _explains(rest: str, words: str, depth: int) -> bool:
    """Whether what follows a phrase explains it, and does not make a name of it ("Unknown, Inc.", "Blurry (song)")."""
    if depth < _DEEPEST and _has_shape(words, depth + 1):
        return True
    if _SHOWN.search(words):
        return True
    return len(words.split()) >= _FEW_WORDS and not rest.lstrip().startswith("(")


def _without_lead(said: str) -> tuple[str, bool]:
    """The text after apologies, "based on the image" and "the answer is"; whether there was one of the first two."""
    excused = False
    for _ in range(_DEEPEST):
        said = said.strip(_EDGES)
        lead = _leads().match(said)
        if lead is None or not lead.end():
            break
        excused |= lead["excuse"] is not None
        said = said[lead.end() :]
    return said.strip(_EDGES), excused


def _is_pattern(refusal: str) -> bool:
    return len(refusal) > 2 and refusal.startswith("/") and refusal.endswith("/")


@lru_cache(maxsize=256)
def _pattern(source: str) -> re.Pattern[str]:
    return re.compile(comparable_pattern(source))


@lru_cache(maxsize=1)
def _openings() -> re.Pattern[str]:
    return _any_of(source for sources in OPENINGS.values() for source in sources)


@lru_cache(maxsize=1)
def _after_apology() -> re.Pattern[str]:
    return _any_of(AFTER_APOLOGY)


@lru_cache(maxsize=1)
def _phrases() -> re.Pattern[str]:
    """A phrase, and what follows it: a place, or something behind a mark that ends the phrase."""
    phrases = _alternatives(source for sources in PHRASES.values() for source in sources)
    place = rf"[\s,(]*(?P<place>{_alternatives(PLACES)}).*"
    mark = rf"[.!?…]+(?=\s).*|[,;:](?=\s).*|\s?\(.*|\s[–—-]\s.*|{_WIDE}[.,;:!?。、…].*"
    return re.compile(rf"(?:{phrases})(?P<rest>[.!?…\s]*$|{place}|{mark})", re.DOTALL)


@lru_cache(maxsize=1)
def _leads() -> re.Pattern[str]:
    spoken = rf"(?P<excuse>{_alternatives((*APOLOGIES, *HEDGES))})|{_alternatives(COPULAS)}"
    return re.compile(rf"(?:{spoken})(?:$|[\s,;:.!。、–-]+|{_WIDE})(?:(?:{_alternatives(_BUT)})[\s,、]+)?")


def _any_of(sources: Iterable[str]) -> re.Pattern[str]:
    return re.compile(_alternatives(sources))


def _alternatives(sources: Iterable[str]) -> str:
    return "|".join(f"(?:{comparable_pattern(source)})" for source in sources)


def comparable_pattern(source: str) -> str:
    """A pattern in the form of `comparable`; classes such as ``\\W`` keep their case."""
    parts = re.split(r"(\\[A-Z])", source)
    return "".join(part if re.fullmatch(r"\\[A-Z]", part) else _without_case(part) for part in parts)


def _without_case(part: str) -> str:
    text = unicodedata.normalize("NFKC", part).translate(_APOSTROPHES).casefold()
    return unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFD", text))).translate(_LETTERS)
