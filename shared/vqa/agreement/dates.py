"""Dates and times of day in their usual notations."""

from __future__ import annotations

import re

from shared.vqa.agreement.items import Date, Found, Time, UnclearDate

_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january jan",
            "february feb",
            "march mar",
            "april apr",
            "may",
            "june jun",
            "july jul",
            "august aug",
            "september sep sept",
            "october oct",
            "november nov",
            "december dec",
        ),
        start=1,
    )
    for name in names.split()
}
_DAYS = {
    short: name
    for name in ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
    for short in (name[:3], *{"tuesday": ["tues"], "thursday": ["thur", "thurs"]}.get(name, []))
}
_MONTH = rf"(?P<month>{'|'.join(sorted(_MONTHS, key=len, reverse=True))})(?![^\W\d_])\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>\d{4})(?!\d|[.,]\d)"
_END = r"(?![\w/])(?!-\w)(?![.:]\d)"
_WRITTEN = [
    re.compile(pattern + _END, re.IGNORECASE)
    for pattern in (
        r"(?P<year>\d{4})(?P<mark>[-/.])(?P<month>\d{1,2})(?P=mark)(?P<day>\d{1,2})",
        r"(?P<year>\d{4}) ?年 ?(?P<month>\d{1,2}) ?月(?: ?(?P<day>\d{1,2}) ?日)?",
        rf"{_MONTH} {_DAY}(?:,? {_YEAR})?",
        rf"(?:the )?{_DAY}[ -](?:of )?{_MONTH}(?:[ ,-]{{1,2}}{_YEAR})?",
        rf"{_MONTH}(?:[ -]|, |,? of ){_YEAR}",
        rf"{_MONTH}",
    )
]
_NUMERIC = re.compile(r"(\d{1,2})(?P<mark>[-/.])(\d{1,2})(?P=mark)(\d{4}|\d{2})" + _END)
_TIME = re.compile(
    r"(?P<hour>\d{1,2})"
    r"(?:(?P<mark>[:.h])(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d))?)?"
    r"(?: ?(?P<half>[ap])\.? ?m\b\.?|(?P<sharp> o'?clock\b))?(?![\w:])(?!\.\d)",
    re.IGNORECASE,
)


def read_date(text: str, start: int) -> Found | None:
    """The date at ``start`` of a folded text, and where it ends; None if there is none. A month alone is a date.

    5/6/2020 stays unclear, since half of the world reads it as 5 June; 25/6/2020 does not.
    """
    numeric = _NUMERIC.match(text, start)
    if numeric is not None and (numeric["mark"] != "." or len(numeric[4]) == 4):
        first, second, year = int(numeric[1]), int(numeric[3]), int(numeric[4])
        if _valid(first, second) and _valid(second, first) and first != second:
            return numeric.end(), frozenset({UnclearDate((first, second, year))})
        if _valid(first, second) or _valid(second, first):
            month, day = (first, second) if _valid(first, second) else (second, first)
            return numeric.end(), frozenset({Date(year, month, day)})
    for pattern in _WRITTEN:
        found = pattern.match(text, start)
        if found is not None:
            parts = found.groupdict()
            name = parts["month"].lower()
            year, day = int(parts.get("year") or 0), int(parts.get("day") or 0)
            month = int(name) if name.isdecimal() else _MONTHS[name]
            if _valid(month, day or 1):
                return found.end(), frozenset({Date(year, month, day)})
    return None


def read_time(text: str, start: int) -> Found | None:
    """The time of day at ``start``: 5:30 pm, 17:30, 17h30, 5 o'clock; None if there is none.

    Without "am" or "pm" it is read in 24 hours. A period separates hours and minutes only before "am" or "pm".
    """
    found = _TIME.match(text, start)
    if found is None or not (found["half"] or found["sharp"] or (found["mark"] or ".") != "."):
        return None
    hour, half = int(found["hour"]), (found["half"] or "").lower()
    if hour > 24 or (half and not 1 <= hour <= 12):
        return None
    hour = hour % 12 + (12 if half == "p" else 0) if half else hour
    second = None if found["second"] is None else int(found["second"])
    return found.end(), frozenset({Time(hour, int(found["minute"] or 0), second)})


def weekday(word: str) -> str:
    """The full name for "mon", "tues" …; any other word as it is."""
    return _DAYS.get(word, word)


def _valid(month: int, day: int) -> bool:
    return 1 <= month <= 12 and 1 <= day <= 31
