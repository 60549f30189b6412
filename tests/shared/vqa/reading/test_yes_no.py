"""Yes and no are told apart in the major languages, and what is neither is not guessed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from shared.vqa.reading.yes_no import says_yes

TEXTS = yaml.safe_load(Path(__file__).with_name("yes_no.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("kind", "expected"), [("yes", True), ("no", False), ("neither", None)])
def test_the_first_word_decides(kind: str, expected: bool | None) -> None:
    assert {text: says_yes(text) for text in TEXTS[kind]} == dict.fromkeys(TEXTS[kind], expected)


@given(st.text(max_size=60))
def test_any_text_is_read(text: str) -> None:
    assert says_yes(text) in (True, False, None)
