"""Units and currencies by their symbols and names. Nothing is converted: 5 km and 5,000 m are different answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from shared.vqa.agreement.folding import caseless, fold

_PREFIXES = {"k": "kilo", "M": "mega", "G": "giga", "T": "tera", "c": "centi", "m": "milli", "µ": "micro", "n": "nano"}
# name, its symbol, and the prefixes that are in use: a "mHz" or "Mm" in an answer is a slip, never meant.
_PREFIXED = [
    ("meter", "m", "kcmµn"),
    ("gram", "g", "kmµ"),
    ("liter", "l", "cm"),
    ("watt", "W", "kMGTm"),
    ("watthour", "Wh", "kMGT"),
    ("volt", "V", "km"),
    ("ampere", "A", "m"),
    ("hertz", "Hz", "kMG"),
    ("byte", "B", "kMGT"),
    ("pascal", "Pa", "kM"),
    ("joule", "J", "kM"),
    ("calorie", "cal", "k"),
    ("newton", "N", "k"),
]
# One unit a line. Plurals in -s are understood; a symbol with capitals that another unit shares keeps its case.
_OTHERS = """
percent %, percents, per cent, pct, pct.
permille ‰, per mille
percentage point: percentage points, pp, percent points
degree °, degrees, deg
celsius °C, ° C, degrees C, degree C, degrees celsius, degree celsius, deg C, centigrade, degrees centigrade
fahrenheit °F, ° F, degrees F, degree F, degrees fahrenheit, degree fahrenheit, deg F
inch in, inches, in.
foot ft, feet, ft.
yard yd, yds, yd.
mile mi, mi.
ounce oz, oz., ozs
pound lb, lbs, lb., lbs.
ton t, tonne, metric ton, metric tonne
gallon gal, gal.
hectare ha
acre ac
square meter: m2, m^2, sqm, sq m, sq. m, square metre
square kilometer: km2, km^2, sq km, sq. km, square kilometre
square foot: ft2, ft^2, sq ft, sq. ft, sqft, square feet
square mile: mi2, mi^2, sq mi, sq. mi
cubic meter: m3, m^3, cu m, cubic metre
cubic centimeter: cm3, cm^3, cc, cubic centimetre
kilometer per hour: km/h, kmh, kph, kmph, km per hour, kilometers per hour, kilometres per hour, kilometre per hour
mile per hour: mph, mi/h, miles per hour
meter per second: m/s, meters per second, metres per second, metre per second
second s, sec, sec., secs
minute min, min., mins
hour h, hr, hrs, hr.
day d
week wk, wks
month mo
year yr, yrs, yr.
pixel px
megapixel mp, MP
decibel dB
kilowatt hour: kilowatt-hour, kilowatthour
"""
_CURRENCIES = """
USD $, US$, USD, dollar, US dollar, U.S. dollar, bucks
AUD A$, AU$, AUD, Australian dollar
CAD C$, CA$, CAD, Canadian dollar
HKD HK$, HKD, Hong Kong dollar
NZD NZ$, NZD, New Zealand dollar
SGD S$, SGD, Singapore dollar
BRL R$, BRL, reais
EUR €, EUR, euro
GBP £, GBP, pound sterling, pounds sterling, pound
JPY ¥, JPY, yen, 円
CNY ¥, CNY, RMB, yuan, renminbi, 元
INR ₹, INR, Rs, Rs., rupee
KRW ₩, KRW, won, 원
RUB ₽, RUB, ruble, rouble
TRY ₺, TRY, lira
ILS ₪, ILS, shekel
CHF CHF, Swiss franc
SEK SEK, Swedish krona
PLN PLN, zł
MXN MXN, Mexican peso
cent ¢, cent
pence p, penny
"""
_ONLY_AT_THE_END = frozenset({"in", "p", "d", "t", "s", "h", "m", "mo", "ha", "won", "ac"})
_IN_QUESTIONS = {"percentage": "percent", "percentages": "percent", "old": "year", "age": "year"}


def _prefixed() -> Iterator[tuple[str, str]]:
    for name, symbol, prefixes in _PREFIXED:
        spellings = {name, name.replace("meter", "metre").replace("liter", "litre")}
        for prefix, long in [("", ""), *((prefix, _PREFIXES[prefix]) for prefix in prefixes)]:
            yield from ((long + spelling, long + name) for spelling in spellings)
            yield prefix + symbol, long + name
            if prefix == "µ":
                yield "u" + symbol, long + name
    yield from (("kilo", "kilogram"), ("kilos", "kilogram"), ("kcal", "kilocalorie"), ("kwh", "kilowatthour"))
    yield from (("kilowatt hour", "kilowatthour"), ("kilowatt-hour", "kilowatthour"), ("micron", "micrometer"))


def _listed(lines: str) -> Iterator[tuple[str, str]]:
    for line in filter(None, lines.splitlines()):
        head, colon, rest = line.partition(":")
        name, spellings = (head, rest) if colon else line.split(" ", 1)
        yield from ((spelling.strip(), name) for spelling in (name, *spellings.split(",")))


def _with_plurals(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for spelling, name in pairs:
        yield spelling, name
        if len(spelling) > 3 and spelling[-1].isalpha() and spelling.isascii() and not spelling.endswith(("s", "z")):
            yield f"{spelling}s", name


def _table(pairs: Iterable[tuple[str, str]]) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Names of units by their exact spelling, and by their spelling in any case."""
    exact: dict[str, set[str]] = {}
    any_case: dict[str, set[str]] = {}
    for spelling, name in _with_plurals(pairs):
        exact.setdefault(fold(spelling), set()).add(name)
        any_case.setdefault(caseless(fold(spelling)), set()).add(name)
    return exact, any_case


_UNITS, _UNITS_ANY_CASE = _table([*_prefixed(), *_listed(_OTHERS), *_listed(_CURRENCIES)])
_MONEY = {name for _, name in _listed(_CURRENCIES)}
_MONEY_ANY_CASE = _table(_listed(_CURRENCIES))[1]


def _pattern(spellings: Iterable[str]) -> str:
    return "|".join(re.escape(one) for one in sorted(spellings, key=lambda one: (-len(one), one)))


_AFTER = re.compile(rf"\s?(?P<unit>{_pattern(_UNITS_ANY_CASE)})(?![\w'])", re.IGNORECASE)
_BEFORE = re.compile(
    rf"(?P<unit>{_pattern(_MONEY_ANY_CASE.keys() - {'p', 'won', 'try'})})\s?(?=[-+]?\.?\d)", re.IGNORECASE
)
_ENDS = re.compile(r"\s*(?:[.,;:!?)\]]|$)")


def currency_before(text: str, start: int) -> tuple[int, frozenset[str]] | None:
    """The currencies that the sign or code at ``start``, before a number, may mean, and where it ends."""
    found = _BEFORE.match(text, start)
    return None if found is None else (found.end(), frozenset(_MONEY_ANY_CASE[caseless(found["unit"])]))


def unit_after(text: str, start: int) -> tuple[int, frozenset[str]] | None:
    """The units that the words or symbol at ``start``, behind a number, may mean, and where they end."""
    found = _AFTER.match(text, start)
    if found is None:
        return None
    spelling = found["unit"]
    small = caseless(spelling)
    if small in _ONLY_AT_THE_END and _ENDS.match(text, found.end()) is None:
        return None
    names = _UNITS.get(spelling) or _UNITS_ANY_CASE[small]
    # "mw" may be milliwatts or megawatts: without its case nobody knows.
    return (found.end(), frozenset(names)) if spelling in _UNITS or len(names) == 1 else None


def case_matters(spelling: str) -> bool:
    """Whether a symbol means something else in the other case, like MW and mW."""
    return len(_UNITS_ANY_CASE.get(caseless(spelling), ())) > 1


def is_money(names: Iterable[str]) -> bool:
    return any(name in _MONEY for name in names)


def units_named(question: str) -> frozenset[str]:
    """The units that the words of a question name: "What percentage …" names percent."""
    words = re.findall(r"[^\W\d_]+|[%$€£¥₹]", caseless(fold(question)))
    named: set[str] = set()
    for length in (1, 2, 3):
        for first in range(len(words) - length + 1):
            spelling = " ".join(words[first : first + length])
            if len(spelling) > 1 or not spelling.isalnum():
                named |= _UNITS_ANY_CASE.get(spelling, set()) - ({"inch"} if spelling == "in" else set())
                named |= {_IN_QUESTIONS[spelling]} if spelling in _IN_QUESTIONS else set()
    return frozenset(named)
