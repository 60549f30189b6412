"""Decoration that wraps a whole answer goes; characters that look like it stay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.vqa.parsing import clean_answer
from shared.vqa.reading.wrapping import unwrapped

KEPT = [
    "#23",
    "#metoo",
    "__init__",
    "__name__",
    "5*",
    "<br>",
    "<html>",
    "C#",
    "C++",
    "*args",
    "**kwargs",
    "~/.ssh",
    "_id",
    "_id_",
    "a_b",
    "$5",
    "$PATH",
    '5"',
    "'",
    "6'",
    '"',
    "5'6\"",
    '5/8"',
    "'90s",
    "f(x)",
    "#",
    "##",
    "*",
    "**",
    "***",
    "#FF0000",
    "A2:B5",
    "@home",
    "^C",
    "~5",
    "`",
    "``x",
    "x``",
    "[1]",
    "{x}",
    "&amp;",
    ".env",
    "p.m.",
    "U.S.A.",
    "No.5",
    "-5",
    "+1",
    ">",
    ">>",
    "<3",
    "100%",
    "—",
    "…",
    "*/5",
    "50-50*",
    "**/*.py",
    "A",
    "a)",
    "A1: 20 km",
    '"A" and "B"',
    "**NEW** and **OLD**",
    "$5 and $6",
    "* * *",
    "5 * 3",
    "# 5",
    "#1 Dad",
    '"Hi" she said',
    "rock 'n' roll",
    "answer key",
    "Ans. 5",
    "The answer is blowing in the wind",
]
STRIPPED = {
    "**5**": "5",
    '"red"': "red",
    "`x`": "x",
    "`__init__`": "__init__",
    "**#23**": "#23",
    "$5$": "5",
    "$$\\boxed{42}$$": "42",
    "$\\boxed{\\text{red}}$": "red",
    "\\boxed{5}": "5",
    "\\(5\\)": "5",
    "<answer>red</answer>": "red",
    "<answer>red": "red",
    "<b>red</b>": "red",
    "```text Red ```": "Red",
    "```text\nRed\n```": "Red",
    "```\nRed\n```": "Red",
    "~~~\nRed\n~~~": "Red",
    "``a`b``": "a`b",
    "“red”": "red",
    "„rot“": "rot",
    "«rouge»": "rouge",
    "「赤」": "赤",
    "'don't walk'": "don't walk",
    "‘STOP’": "STOP",
    '**"5"**': "5",
    "*red*": "red",
    "__no parking__": "no parking",
    "<|begin_of_box|>7<|end_of_box|>": "7",
    "The answer is **red**.": "red",
    "The final answer is $\\boxed{3}$.": "3",
    "**Answer: red**": "red",
    "**Answer:** 5*": "5*",
    "Answer: **kwargs": "**kwargs",
    "Answer: #23": "#23",
    "Let me see.\nThe sign is red.\n\nAnswer: red": "red",
    "Let me see.\n\n\\boxed{12}": "12",
    "Antwort: rot": "rot",
    "Réponse : rouge": "rouge",
    "答：红色。": "红色",
    "الجواب: أحمر": "أحمر",
    '{"answer": "#23"}': "#23",
    '```json\n{"answer": "5*"}\n```': "5*",
    '""': "",
}


@pytest.mark.parametrize("text", KEPT)
def test_what_wraps_nothing_stays(text: str) -> None:
    assert clean_answer(text) == text


@pytest.mark.parametrize(("text", "answer"), STRIPPED.items())
def test_what_wraps_the_whole_answer_goes(text: str, answer: str) -> None:
    assert clean_answer(text) == answer


WRAPS = [("**", "**"), ('"', '"'), ("“", "”"), ("`", "`"), ("$", "$"), ("\\boxed{", "}"), ("<answer>", "</answer>")]
plain = st.from_regex(r"[a-z#@%&+0-9]{1,8}( [a-z0-9#]{1,8}){0,3}", fullmatch=True)


@given(plain, st.lists(st.sampled_from(WRAPS), max_size=3))
def test_any_pairs_around_an_answer_go(answer: str, pairs: list[tuple[str, str]]) -> None:
    text = answer
    for opening, closing in pairs:
        if opening not in text:
            text = f"{opening}{text}{closing}"
    assert clean_answer(text) == clean_answer(answer) == answer


@given(st.text(max_size=60))
def test_no_text_gains_characters_or_is_unwrapped_twice(text: str) -> None:
    once = unwrapped(text)
    assert len(once) <= len(text)
    assert unwrapped(once) == once
