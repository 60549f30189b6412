"""Parameters that are accepted where they change nothing, and the table of them in docs/openai.md."""

from __future__ import annotations

import re

import pytest

from shared.contracts import ChatRequest
from shared.serving.neutral import NEUTRAL, Neutral
from tests.openai_rows import PAGE, not_neutral


def test_the_docs_list_every_parameter_with_its_neutral_values() -> None:
    listed = {}
    for line in PAGE.read_text().split("## Parameters that change nothing")[1].split("\n## ")[0].splitlines():
        if line.startswith("| `"):
            names, values = (cell.strip() for cell in line.strip("|").split("|"))
            listed |= dict.fromkeys(re.findall(r"`(\w+)`", names), values.replace("`", ""))
    assert listed == {name: neutral.words for name, neutral in NEUTRAL.items()}


def test_no_parameter_is_both_honoured_and_neutral() -> None:
    assert not NEUTRAL.keys() & ChatRequest.model_fields.keys()


@pytest.mark.parametrize("name", NEUTRAL)
def test_neutral_values_and_null_are_accepted_and_others_are_not(name: str) -> None:
    neutral = NEUTRAL[name]
    assert neutral.accepts(None) and all(neutral.accepts(value) for value in neutral.values)
    assert neutral.hint or not neutral.accepts(not_neutral(neutral))


def test_numbers_are_compared_by_value_and_false_is_not_a_number() -> None:
    zero, false = Neutral((0,)), Neutral((False,))
    assert zero.accepts(0.0) and zero.accepts(-0.0) and not zero.accepts(False) and not zero.accepts("0")
    assert false.accepts(False) and not false.accepts(0) and not false.accepts([])
