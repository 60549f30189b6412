"""English number words: "three", "twenty-one" (its hyphen read as a space), "two hundred and five", "a dozen"."""

from __future__ import annotations

import re
from fractions import Fraction

_BELOW_TWENTY = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen
"""
_SMALL = {word: value for value, word in enumerate(_BELOW_TWENTY.split())}
_MULTIPLES = "twenty thirty forty fifty sixty seventy eighty ninety"
_TENS = {word: 10 * value for value, word in enumerate(_MULTIPLES.split(), start=2)} | {"fourty": 40}
SCALES = {
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "lakh": 10**5,
    "lakhs": 10**5,
    "crore": 10**7,
    "crores": 10**7,
}
_GROUPS = {"hundred": 100, "dozen": 12}
_PLACES = """
first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth
sixteenth seventeenth eighteenth nineteenth
"""
_ORDINALS = {word: place for place, word in enumerate(_PLACES.split(), start=1)}
_ROUND_ORDINALS = {f"{word[:-1]}ieth": value for word, value in _TENS.items()} | {"hundredth": 100, "thousandth": 1000}
_STARTS = {*_SMALL, *_TENS, *_GROUPS, *_ORDINALS, *_ROUND_ORDINALS, "a"}
_WORD = re.compile(r"\s?([a-z]+)(?![\w'])", re.IGNORECASE)
_LONGEST = 16


def read_number_words(text: str, start: int) -> tuple[int, Fraction] | None:
    """The number that the words at ``start`` spell, and where they end; None if they spell none."""
    words = _words(text, start)
    used, value = _number([word for _, word in words])
    if value is None:
        return None
    digits = _decimals([word for _, word in words[used:]])
    if digits:
        return words[used + len(digits)][0], value + Fraction(int(digits), 10 ** len(digits))
    return words[used - 1][0], Fraction(value)


def read_ordinal_word(text: str, start: int) -> tuple[int, int] | None:
    """The place that "first" or "twenty-first" names, and where the words end."""
    words = _words(text, start)[:2]
    names = [word for _, word in words]
    if len(names) == 2 and names[0] in _TENS and 0 < _ORDINALS.get(names[1], 0) < 10:
        return words[1][0], _TENS[names[0]] + _ORDINALS[names[1]]
    place = (_ORDINALS | _ROUND_ORDINALS).get(names[0]) if names else None
    return None if place is None else (words[0][0], place)


def _words(text: str, start: int) -> list[tuple[int, str]]:
    """The words from ``start`` on, with single spaces between them, each with its end."""
    found: list[tuple[int, str]] = []
    while len(found) < _LONGEST and (match := _WORD.match(text, found[-1][0] if found else start)) is not None:
        word = match[1].lower()
        if not found and (word not in _STARTS or text[start].isspace()):
            return []
        found.append((match.end(), word))
    return found


def _number(words: list[str]) -> tuple[int, int | None]:
    """How many of ``words`` spell a number, and which; None if they spell none."""
    length, year = _year(words)
    if year is not None:
        return length, year
    used, total, smallest = 0, 0, 10**15
    while used < len(words):
        joined = used + (used > 0 and words[used] == "and")
        length, group = _group(words[joined:])
        if group is None:
            break
        end = joined + length
        scale = SCALES.get(words[end], 1) if end < len(words) else 1
        if scale >= smallest or (used and scale == 1 and group >= smallest):
            break
        total, used, smallest = total + group * scale, end + (scale > 1), scale
        if scale == 1:
            break
    return (used, total) if used else (0, None)


def _group(words: list[str]) -> tuple[int, int | None]:
    """A number below a thousand, or a dozen of them: how many words it takes, and its value."""
    one = len(words) > 1 and words[0] == "a" and (words[1] in _GROUPS or words[1] in SCALES)
    length, value = (1, 1) if one else _below_hundred(words)
    if value is None:
        return (1, _GROUPS[words[0]]) if words and words[0] in _GROUPS else (0, None)
    if length < len(words) and words[length] in _GROUPS:
        group, length = value * _GROUPS[words[length]], length + 1
        joined = length + (1 if length < len(words) and words[length] == "and" else 0)
        more, rest = _below_hundred(words[joined:])
        return (length, group) if rest is None or words[length - 1] == "dozen" else (joined + more, group + rest)
    return length, value


def _below_hundred(words: list[str]) -> tuple[int, int | None]:
    if not words:
        return 0, None
    if words[0] in _SMALL:
        return 1, _SMALL[words[0]]
    if words[0] not in _TENS:
        return 0, None
    unit = _SMALL.get(words[1], 0) if len(words) > 1 else 0
    return (2, _TENS[words[0]] + unit) if 0 < unit < 10 else (1, _TENS[words[0]])


def _year(words: list[str]) -> tuple[int, int | None]:
    """Years are read in pairs of digits: "nineteen ninety-five", "twenty twenty"."""
    century = (_SMALL | {"twenty": 20}).get(words[0], 0) if words else 0
    length, rest = _below_hundred(words[1:])
    if not 13 <= century <= 20 or rest is None or rest < 10:
        return 0, None
    follows = words[1 + length : 2 + length]
    is_year = not follows or (follows[0] not in _GROUPS and follows[0] not in SCALES)
    return (1 + length, century * 100 + rest) if is_year else (0, None)


def _decimals(words: list[str]) -> str:
    """The digits behind "point"; "" if there are none."""
    digits = ""
    for word in words[1:] if words[:1] == ["point"] else ():
        if not 0 <= _SMALL.get(word, 10) < 10:
            break
        digits += str(_SMALL[word])
    return digits
