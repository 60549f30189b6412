"""Reads an answer: what it may mean, place by place.

An answer may have several meanings, because writing leaves things open: "ice-cream" is "icecream" or "ice cream",
"10,20" is one number or two. Each meaning is a sequence of places, and each place may mean several things.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache

from shared.vqa.agreement.dates import read_date, read_time, weekday
from shared.vqa.agreement.folding import caseless, fold
from shared.vqa.agreement.items import Alternatives, Found, Item, Number, Ordinal, Separator, Word
from shared.vqa.agreement.number_words import read_ordinal_word
from shared.vqa.agreement.numerals import read_number

Meaning = tuple[Alternatives, ...]

_WRAPPED = [("(", ")"), ("[", "]"), ("{", "}"), ('"', '"'), ("'", "'")]
_HYPHEN = re.compile(r"(?<=[^\W\d_])-(?=\w)|(?<=\w)-(?=[^\W\d_])|(?<=[^\W\d_]{2})/(?=[^\W\d_]{2})")
_TIMES = re.compile(r"(?<=\d) ?x ?(?=\d)", re.IGNORECASE)
_ROW_OF_NUMBERS = re.compile(r"(?<=\d)(?: |,(?!\d{3}(?!\d)))(?=\d)")
_SILENT = ".!?:()[]{}\"'¿¡"
_CHUNK = re.compile(r"[^\s,;!?()\[\]{}\"]+")
_DROPPED = re.compile(r"'|(?<!\d)\.|\.(?!\d)")
_VERSION = re.compile(r"(?:v|ver\.?|version)\s?(\d+(?:\.\d+)+)(?!\w)", re.IGNORECASE)
_DIGIT_ORDINAL = re.compile(r"(\d{1,9})(?:st|nd|rd|th)(?!\w)", re.IGNORECASE)
_PHONE = re.compile(r"[+(]?\d[\d ()./-]*\d")
_PHONE_DIGITS = range(7, 16)
_CONFIRMED = re.compile(
    r"(?P<word>yes|no)[,.;:!-]* (?:it|he|she|they|there|that|this|these|those|i|we|you) ?"
    r"(?:is|are|was|were|does|do|did|has|have|had|can|could|will|would|should)(?P<negated> not|n't)?[.!]*",
    re.IGNORECASE,
)


@lru_cache(maxsize=1024)
def meanings(text: str) -> tuple[Meaning, ...]:
    """The different meanings of ``text``, at least one; a text without words or numbers is read as it stands."""
    folded = _unwrapped(fold(text))
    confirmed = _CONFIRMED.fullmatch(folded)
    if confirmed is not None and (confirmed["word"].lower() == "no") == bool(confirmed["negated"]):
        folded = confirmed["word"]
    found = [_without_articles(_with_shared_units(list(_scan(variant)))) for variant in _variants(folded)]
    phone = _phone_number(folded)
    if phone is not None:
        found.append((frozenset({phone}),))
    if not any(found):
        found = [(frozenset({Word(caseless(folded.strip(f"{_SILENT},; ") or folded))}),)]
    return tuple(dict.fromkeys(found))


def _unwrapped(text: str) -> str:
    """Without the quotes or brackets around the whole."""
    for first, last in _WRAPPED:
        inner = text[1:-1]
        if len(text) > 1 and text[0] == first and text[-1] == last and first not in inner and last not in inner:
            return _unwrapped(inner.strip())
    return text


def _variants(text: str) -> Iterator[str]:
    """The spellings of ``text``: hyphens kept, left out and as spaces; a row of numbers as one number and as a list."""
    text = _TIMES.sub("x", text)
    for spelling in dict.fromkeys((text, _HYPHEN.sub("", text), _HYPHEN.sub(" ", text))):
        yield spelling
        listed = _ROW_OF_NUMBERS.sub(", ", spelling)
        if listed != spelling:
            yield listed


def _scan(text: str) -> Iterator[Alternatives]:
    place = 0
    last: Alternatives = frozenset()
    while place < len(text):
        read = None if text[place].isspace() else _read(text, place, last)
        if read is None:
            place += 1
            continue
        place, last = read
        yield last


def _read(text: str, place: int, last: Alternatives) -> Found | None:
    """What stands at ``place``; None for what says nothing."""
    if text[place] in ",;":
        return place + 1, frozenset({Separator()})
    if text[place] == "-" and any(isinstance(item, Number) for item in last) and not _is_sign(text, place):
        return place + 1, frozenset({Word("to")})
    for reader in (_read_version, read_date, read_time, _read_ordinal, read_number):
        found = reader(text, place)
        if found is not None:
            return found
    return None if text[place] in _SILENT else _read_chunk(text, place)


def _is_sign(text: str, place: int) -> bool:
    """ "10 -20" has a sign; "10-20" and "10 - 20" are ranges."""
    follows = text[place + 1 : place + 2]
    return text[place - 1].isspace() and bool(follows) and not follows.isspace()


def _read_chunk(text: str, place: int) -> Found | None:
    found = _CHUNK.match(text, place)
    if found is None:
        return None
    word = weekday(_DROPPED.sub("", caseless(found.group()).rstrip(".:'")))
    if word in ("and", "&"):
        return found.end(), frozenset({Separator()})
    return (found.end(), frozenset({Word(word)})) if word else None


def _read_version(text: str, place: int) -> Found | None:
    found = _VERSION.match(text, place)
    return None if found is None else (found.end(), frozenset({Word(f"v{found[1]}")}))


def _read_ordinal(text: str, place: int) -> Found | None:
    digits = _DIGIT_ORDINAL.match(text, place)
    if digits is not None:
        return digits.end(), frozenset({Ordinal(int(digits[1]))})
    word = read_ordinal_word(text, place)
    return None if word is None else (word[0], frozenset({Ordinal(word[1])}))


def _with_shared_units(places: list[Alternatives]) -> list[Alternatives]:
    """ "5-10%" as "5% to 10%", and "$5-10" as "$5 to $10"."""
    for index in range(len(places) - 2):
        first, between, last = places[index : index + 3]
        if between == frozenset({Word("to")}):
            places[index] = frozenset(_with_units(item, _units(last)) for item in first)
            places[index + 2] = frozenset(_with_units(item, _units(first)) for item in last)
    return places


def _units(place: Alternatives) -> frozenset[str]:
    return frozenset(unit for item in place if isinstance(item, Number) for unit in item.units)


def _with_units(item: Item, units: frozenset[str]) -> Item:
    if not isinstance(item, Number) or item.units or not units:
        return item
    return replace(item, units=units, whole=False)


def _without_articles(places: list[Alternatives]) -> Meaning:
    kept = tuple(place for index, place in enumerate(places) if not _is_article(place, places[index + 1 :]))
    kept = kept if any(Separator() not in place for place in kept) else tuple(places)
    if kept == (frozenset({Word("none")}),):
        return (frozenset({Word("none"), Number(Fraction(0), whole=True)}),)
    return kept if any(Separator() not in place for place in kept) else ()


def _is_article(place: Alternatives, behind: list[Alternatives]) -> bool:
    """Whether it is an article. "a" before a number, at the end or at the end of a list's item names something."""
    if place in (frozenset({Word("the")}), frozenset({Word("an")})):
        return True
    follows = behind[0] if behind else frozenset({Separator()})
    return place == frozenset({Word("a")}) and not any(isinstance(item, Separator | Number) for item in follows)


def _phone_number(text: str) -> Word | None:
    """The digits of a telephone number, however they are grouped. Digits alone may be one, too."""
    if _PHONE.fullmatch(text.rstrip(".")) is None or text.count(".") == 1:
        return None
    digits = "".join(filter(str.isdecimal, text))
    return Word(f"tel:{digits}") if len(digits) in _PHONE_DIGITS else None
