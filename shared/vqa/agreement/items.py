"""What an answer is made of once it is read: words, numbers with their units, ordinals, dates and times."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

NO_UNIT: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Word:
    """A word, a name or a code, without differences of case."""

    text: str


@dataclass(frozen=True)
class Separator:
    """Stands between the items of a list: a comma, a semicolon, "and"."""


@dataclass(frozen=True)
class Number:
    """A value. ``units``: what its unit may be ("¥" is yen or yuan), empty if it has none.

    ``whole``: written with digits alone, like a year or a count. ``ratio``: the two numbers of "3/4", which is a
    fraction, a score or a page.
    """

    value: Fraction
    units: frozenset[str] = NO_UNIT
    whole: bool = False
    ratio: tuple[int, int] | None = None


@dataclass(frozen=True)
class Ordinal:
    """A place in an order: "1st" and "first", which are not "1"."""

    place: int


@dataclass(frozen=True)
class Date:
    """Whatever of a date is given; 0 stands for what is not."""

    year: int = 0
    month: int = 0
    day: int = 0


@dataclass(frozen=True)
class UnclearDate:
    """Numbers like 5/6/2020, which are a day and a month in either order."""

    numbers: tuple[int, int, int]


@dataclass(frozen=True)
class Time:
    """A time of day in 24 hours."""

    hour: int
    minute: int = 0
    second: int | None = None


Item = Word | Separator | Number | Ordinal | Date | UnclearDate | Time
Alternatives = frozenset[Item]
"""What one place of an answer may mean: "5 pounds" is a weight or a price."""
Found = tuple[int, Alternatives]
"""Where what was read ends, and what it may mean."""
