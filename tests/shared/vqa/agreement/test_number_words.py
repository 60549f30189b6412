"""English number words, and where they end."""

from __future__ import annotations

from fractions import Fraction

import pytest

from shared.vqa.agreement.number_words import read_number_words, read_ordinal_word


@pytest.mark.parametrize(
    ("text", "value", "rest"),
    [
        ("zero", 0, ""),
        ("Twenty one", 21, ""),
        ("ninety nine dogs", 99, " dogs"),
        ("a hundred and five", 105, ""),
        ("two hundred thousand", 200_000, ""),
        ("one million two hundred thousand and six", 1_200_006, ""),
        ("a dozen eggs", 12, " eggs"),
        ("two dozen", 24, ""),
        ("five six", 5, " six"),
        ("five and six", 5, " and six"),
        ("nineteen ninety five", 1995, ""),
        ("twenty twenty", 2020, ""),
        ("twenty hundred", 2000, ""),
        ("three point one four", Fraction(314, 100), ""),
        ("three point", 3, " point"),
        ("two crore", 20_000_000, ""),
    ],
)
def test_words_spell_a_number(text: str, value: Fraction, rest: str) -> None:
    assert read_number_words(text, 0) == (len(text) - len(rest), value)


@pytest.mark.parametrize("text", ["a", "a dog", "and five", "half", "onework", "sevens", "", "no", "dozens"])
def test_other_words_spell_none(text: str) -> None:
    assert read_number_words(text, 0) is None


@pytest.mark.parametrize(("text", "place"), [("first", 1), ("Twelfth", 12), ("twenty first", 21), ("thirtieth", 30)])
def test_words_name_a_place(text: str, place: int) -> None:
    assert read_ordinal_word(text, 0) == (len(text), place)
    assert read_ordinal_word("firstly", 0) is None


def test_every_number_below_a_thousand_is_spelt_apart() -> None:
    small = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    below = (small + "seventeen eighteen nineteen").split()
    tens = "twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905  # reads as it is said

    def spelt(number: int) -> str:
        if number >= 100:
            rest = f" and {spelt(number % 100)}" if number % 100 else ""
            return f"{below[number // 100]} hundred{rest}"
        if number < 20:
            return below[number]
        return tens[number // 10 - 2] + (f" {below[number % 10]}" if number % 10 else "")

    for number in range(1000):
        assert read_number_words(spelt(number), 0) == (len(spelt(number)), number)
