"""Whether two models gave the same answer. docs/agreement.md has the rules.

This is not a benchmark's score: a metric compares a prediction with what people wrote, and is kept with all its quirks
(shared/vqa/metrics.py). Here neither side is a gold answer, so the comparison is symmetric.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import gcd

from shared.vqa.agreement.folding import caseless, fold
from shared.vqa.agreement.items import Alternatives, Item, Number, Separator, Word
from shared.vqa.agreement.meanings import Meaning, meanings
from shared.vqa.agreement.rule import AS_WRITTEN, AgreementRule
from shared.vqa.agreement.units import units_named

LONGEST = 500
"""Characters. A longer text is compared as a whole, by its spelling alone."""
YEARS = range(1500, 2101)
COUNTS = range(100)
MOST_ITEMS = 12

_ASKS_HOW_MANY = re.compile(r"\bhow (?:many|much)\b|\bnumber of\b|\bcount of\b")
_ASKS_FOR_A_YEAR = re.compile(r"\byears?\b|\bwhen\b|\bdates?\b")
_ASKS_WHICH_YEAR = re.compile(r"\b(?:what|which|in what|in which) year\b|\bwhen\b|\bwhat date\b")
_NAMES_WHAT_IT_COUNTS = re.compile(r"\bhow \w+\b|\bnumber of\b|\bcount of\b|\bpercentage\b")


def agree(a: str, b: str, rule: AgreementRule = AS_WRITTEN, question: str = "") -> bool:
    """Whether ``a`` and ``b`` are the same answer, whichever comes first.

    ``question``: what both answer, if it is known. It says which unit or noun may be left out ("How many dogs …":
    "3 dogs" and "3"), and what is counted rather than measured.
    """
    if a == b:
        return True
    if max(len(a), len(b)) > LONGEST:
        return _spelling(a) == _spelling(b)
    asked = _Asked(rule, question)
    right = meanings(b)
    return any(asked.same(one, other) for one in meanings(a) for other in right)


@dataclass(frozen=True)
class _Asked:
    rule: AgreementRule
    question: str

    @cached_property
    def _plain(self) -> str:
        return caseless(fold(self.question))

    @cached_property
    def _units(self) -> frozenset[str]:
        return units_named(self.question)

    @cached_property
    def _words(self) -> frozenset[str]:
        """The question's words, in the singular too, if they may be what an answer counts."""
        words = re.findall(r"\w+", self._plain) if _NAMES_WHAT_IT_COUNTS.search(self._plain) else []
        return frozenset({*words, *(word[:-1] for word in words if word.endswith("s"))})

    @cached_property
    def _counts(self) -> bool:
        return _ASKS_HOW_MANY.search(self._plain) is not None

    @cached_property
    def _wants_a_year(self) -> bool:
        return _ASKS_WHICH_YEAR.search(self._plain) is not None

    def same(self, one: Meaning, other: Meaning) -> bool:
        one, other = self._without_the_noun(one), self._without_the_noun(other)
        if self.rule.any_order and self._same_items(_items(one), _items(other)):
            return True
        return self._same_sequence(_places(one), _places(other))

    def _without_the_noun(self, meaning: Meaning) -> Meaning:
        """ "3 black dogs" as "3", if the question has these words."""
        first, *others = meaning or (frozenset(),)
        counted = others and any(isinstance(item, Number) for item in first)
        if counted and all(len(place) == 1 and self._asks_about(*place) for place in others):
            return (first,)
        return meaning

    def _asks_about(self, item: Item) -> bool:
        return isinstance(item, Word) and (item.text in self._words or item.text.removesuffix("s") in self._words)

    def _same_items(self, ones: Sequence[Meaning], others: Sequence[Meaning]) -> bool:
        """Whether the items of two lists can be paired: a bipartite matching by augmenting paths."""
        if len(ones) != len(others) or not 1 < len(ones) <= MOST_ITEMS:
            return False
        fits = [[at for at, other in enumerate(others) if self._same_sequence(one, other)] for one in ones]
        partner: dict[int, int] = {}

        def place(one: int, tried: set[int]) -> bool:
            for other in fits[one]:
                if other not in tried:
                    tried.add(other)
                    if other not in partner or place(partner[other], tried):
                        partner[other] = one
                        return True
            return False

        return all(place(one, set()) for one in range(len(ones)))

    def _same_sequence(self, one: Meaning, other: Meaning) -> bool:
        if len(one) != len(other):
            return False
        measured = self.rule.tolerance > 0 and all(_is_value(place) for place in (*one, *other))
        return all(
            any(self._same_item(x, y, measured) for x in left for y in right)
            for left, right in zip(one, other, strict=True)
        )

    def _same_item(self, one: Item, other: Item, measured: bool) -> bool:
        if not (isinstance(one, Number) and isinstance(other, Number)):
            return one == other
        return self._same_unit(one.units, other.units) and (
            _same_value(one, other) or (measured and self._is_near(one, other))
        )

    def _same_unit(self, ones: frozenset[str], others: frozenset[str]) -> bool:
        if ones and others:
            return bool(ones & others)
        either = ones | others
        return not either or self.rule.optional_units or bool(either & self._units)

    def _is_near(self, one: Number, other: Number) -> bool:
        """Whether the difference may come from reading a scale. Years and small counts are read exactly."""
        whole = one.whole and other.whole
        if whole and (self._wants_a_year or (self._counts and _both_below(COUNTS.stop, one, other))):
            return False
        is_amount = self._counts and _ASKS_FOR_A_YEAR.search(self._plain) is None
        if not is_amount and any(number.whole and number.value in YEARS for number in (one, other)):
            return False
        largest = max(abs(one.value), abs(other.value))
        return abs(one.value - other.value) <= Fraction(str(self.rule.tolerance)) * largest


def _spelling(text: str) -> str:
    return caseless(fold(text)).rstrip(" .")


def _places(meaning: Meaning) -> Meaning:
    return tuple(place for place in meaning if Separator() not in place)


def _items(meaning: Meaning) -> list[Meaning]:
    """The items of a list."""
    items: list[list[Alternatives]] = [[]]
    for place in meaning:
        if Separator() in place:
            items.append([])
        else:
            items[-1].append(place)
    return [tuple(item) for item in items if item]


def _is_value(place: Alternatives) -> bool:
    return any(isinstance(item, Number) or item == Word("to") for item in place)


def _same_value(one: Number, other: Number) -> bool:
    """ "3/4" is "0.75", but "2/4" is only "2/4": it may be a score or a page."""
    if one.ratio is not None and other.ratio is not None:
        return one.ratio == other.ratio
    ratio = one.ratio or other.ratio
    return one.value == other.value and (ratio is None or (abs(ratio[0]) < ratio[1] and gcd(*ratio) == 1))


def _both_below(limit: int, one: Number, other: Number) -> bool:
    return abs(one.value) < limit and abs(other.value) < limit
