"""Numbers in digits: separators, signs, scales ("5M"), units and currencies.

A comma before groups of three digits separates thousands ("1,234"), before anything else decimals ("1,5"). A single
period separates decimals ("1.234" is not 1234); with further separators the number itself says which is which
("1.234,00", "1.234.567"). A whole number with leading zeros is a code ("007").
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

from shared.vqa.agreement.folding import caseless
from shared.vqa.agreement.items import NO_UNIT, Found, Item, Number, Word
from shared.vqa.agreement.number_words import SCALES, read_number_words
from shared.vqa.agreement.units import case_matters, currency_before, is_money, unit_after

_LONGEST = 40
_DIGITS = r"""(?:
    (?P<thousands>[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?|[1-9]\d?(?:,\d{2})+,\d{3}(?:\.\d+)?)
  | (?P<european>[1-9]\d{0,2}(?:\.\d{3})+,\d+|[1-9]\d{0,2}(?:\.\d{3}){2,})
  | (?P<spaced>[1-9]\d{0,2}(?P<gap>[ '])\d{3}(?:(?P=gap)\d{3})*(?:[.,]\d+)?)
  | (?P<comma>\d+,\d+)
  | (?P<point>\d*\.\d+)
  | (?P<whole>\d+)
)(?![.,]?\d|'\d{3})"""
_NUMERAL = re.compile(rf"(?P<sign>[-+]?){_DIGITS}(?:e(?P<exponent>[-+]?\d{{1,2}})(?!\w))?", re.VERBOSE | re.IGNORECASE)
_RATIO = re.compile(r"(?P<sign>[-+]?)(?:(?P<more>\d{1,9}) )?(?P<top>\d{1,9}) ?/ ?(?P<bottom>[1-9]\d{0,8})(?![\d/.,])")
_SCALE_AFTER = re.compile(
    rf"\s?(?:(?P<word>hundred|{'|'.join(SCALES)})|(?P<short>bn|mn|mln|k)|(?P<letter>[mb]))(?![\w'])",
    re.IGNORECASE,
)
_SHORT = {"bn": 10**9, "mn": 10**6, "mln": 10**6, "k": 1000, "m": 10**6, "b": 10**9}
_MINUS = re.compile(r"(?:minus|negative)\s", re.IGNORECASE)
_ENDS = re.compile(r"""$|[\s,;!?()\[\]{}"]|[.:'](?!\w)|-\s?[-+]?[$€£¥₹]?\.?\d|(?<=\d')\d""")
_FEET = re.compile(r"'(?=\s?\d+(?:\.\d+)?\"|[^\w]|$)")
_CHUNK = re.compile(r"[^\s,;!?()\[\]{}\"]+")
_LONE_MARKS = ".:'"


def read_number(text: str, start: int) -> Found | None:
    """The number at ``start`` of a folded text, in digits or words, with its unit; None if there is none.

    A number that letters follow without a space may be a code as well ("5K", "12A").
    """
    minus = _MINUS.match(text, start)
    before = currency_before(text, minus.end() if minus else start) or _percent_before(text, start)
    at = before[0] if before else minus.end() if minus else start
    for end, number, is_word in _values(text, at):
        value = -number.value if minus else number.value
        money = before[1] if before else NO_UNIT
        readings = list(_with_scale_and_unit(text, end, value, money, number))
        good = [(stop, reading) for stop, reading in readings if _ENDS.match(text, stop)]
        if good:
            longest = max(stop for stop, _ in good)
            items: set[Item] = {reading for stop, reading in good if stop == longest}
            return longest, frozenset(items | (set() if is_word else _as_code(text, start, longest)))
    return None


def _percent_before(text: str, start: int) -> tuple[int, frozenset[str]] | None:
    """Turkish writes %5."""
    return (start + 1, frozenset({"percent"})) if text[start : start + 1] == "%" else None


def _values(text: str, start: int) -> Iterator[tuple[int, Number, bool]]:
    """Bare numbers at ``start`` with their ends, and whether they are words."""
    ratio = _RATIO.match(text, start)
    if ratio is not None:
        yield ratio.end(), _ratio(ratio), False
    numeral = _NUMERAL.match(text, start)
    if numeral is not None and numeral.end() - start <= _LONGEST:
        digits = numeral["whole"] or ""
        if not (len(digits) > 1 and digits.startswith("0")):
            plain = bool(digits) and numeral["exponent"] is None
            yield numeral.end(), Number(_value(numeral), whole=plain), False
    words = read_number_words(text, start)
    if words is not None:
        yield words[0], Number(words[1], whole=words[1].denominator == 1), True


def _value(numeral: re.Match[str]) -> Fraction:
    if numeral["european"]:
        digits = numeral["european"].replace(".", "").replace(",", ".")
    elif numeral["thousands"]:
        digits = numeral["thousands"].replace(",", "")
    elif numeral["spaced"]:
        digits = numeral["spaced"].replace(numeral["gap"], "").replace(",", ".")
    else:
        digits = (numeral["comma"] or numeral["point"] or numeral["whole"]).replace(",", ".")
    value = Fraction(digits) * Fraction(10) ** int(numeral["exponent"] or 0)
    return -value if numeral["sign"] == "-" else value


def _ratio(found: re.Match[str]) -> Number:
    """ "1 1/2" is a number; "3/4" may be a score or a page as well, so what it was written with is kept."""
    more, top, bottom = int(found["more"] or 0), int(found["top"]), int(found["bottom"])
    value = Fraction(top, bottom) + more
    sign = -1 if found["sign"] == "-" else 1
    return Number(sign * value, ratio=None if found["more"] else (sign * top, bottom))


def _with_scale_and_unit(
    text: str, end: int, value: Fraction, money: frozenset[str], number: Number
) -> Iterator[tuple[int, Number]]:
    """Everything that ``value`` and what follows it may mean, each with its end."""
    for stop, scaled, sure in _scaled(text, end, value, bool(money)):
        unit = unit_after(text, stop) or _feet_or_inches(text, stop)
        if unit is not None and (is_money(unit[1]) if money or not sure else True):
            yield unit[0], Number(scaled, unit[1])
        if sure:
            bare = stop == end
            yield stop, Number(scaled, money, number.whole and bare and not money, number.ratio if bare else None)


def _scaled(text: str, end: int, value: Fraction, money: bool) -> Iterator[tuple[int, Fraction, bool]]:
    """The value, and times the scale that follows; whether that scale is one for sure ("5m" may be metres)."""
    yield end, value, True
    found = _SCALE_AFTER.match(text, end)
    if found is None:
        return
    if found["word"]:
        yield found.end(), value * (SCALES.get(found["word"].lower()) or 100), True
    elif found["short"]:
        yield found.end(), value * _SHORT[found["short"].lower()], True
    else:
        yield found.end(), value * _SHORT[found["letter"].lower()], found["letter"].isupper() or money


def _feet_or_inches(text: str, start: int) -> tuple[int, frozenset[str]] | None:
    if _FEET.match(text, start) is not None:
        return start + 1, frozenset({"foot"})
    opened = text.count('"', 0, start) % 2 == 1
    return (start + 1, frozenset({"inch"})) if text[start : start + 1] == '"' and not opened else None


def _as_code(text: str, start: int, end: int) -> set[Item]:
    """The letters and digits as they stand, if they stand together."""
    chunk = _CHUNK.match(text, start)
    if chunk is None or chunk.end() < end or not any(char.isalpha() for char in chunk.group()):
        return set()
    whole = chunk.group().rstrip(_LONE_MARKS)
    letters = whole.lstrip("0123456789.,+-")
    return {Word(caseless(whole))} if start + len(whole) <= end and not case_matters(letters) else set()
