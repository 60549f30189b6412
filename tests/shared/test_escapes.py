"""Texts from outside and how they are written until a tokenizer has read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidInput
from shared.escapes import OPENERS, QUOTE, Escapes, write_messages

ESCAPES = Escapes()
OWN = [char for written, _ in ESCAPES.rules() for char in written]
"""Characters of the scheme itself."""
TEXTS = st.text(st.one_of(st.characters(), st.sampled_from([*OPENERS, *OWN])))


@given(TEXTS)
def test_every_text_comes_back_and_its_openers_are_gone(text: str) -> None:
    written = ESCAPES.write(text)
    assert ESCAPES.restore(written) == text
    assert not set(written) & set(OPENERS)


@given(st.lists(TEXTS))
def test_parts_are_written_one_by_one_or_joined(parts: list[str]) -> None:
    assert "".join(map(ESCAPES.write, parts)) == ESCAPES.write("".join(parts))


def test_a_text_without_openers_is_left_as_it_is() -> None:
    assert ESCAPES.write("what colour is it? 5 > 4 {a} |b|") == "what colour is it? 5 > 4 {a} |b|"
    assert not ESCAPES.changes(["what colour", "is it?"])
    assert ESCAPES.changes(["what colour", "is <image>?"]) and ESCAPES.changes([QUOTE])


def test_an_opener_is_one_character_so_that_places_stay() -> None:
    assert len(ESCAPES.write("<image> [x]")) == len("<image> [x]")


@pytest.mark.parametrize("text", ["an </s>", "</s>", "an ＜/s＞", "an ﹤/s﹥"])
def test_a_special_token_that_cannot_be_text_is_refused_by_name(text: str) -> None:
    escapes = Escapes(refused=("</s>", "<s>"))
    with pytest.raises(InvalidInput, match="holds '</s>', which this model's tokenizer reads as a special token"):
        escapes.write(text)
    assert escapes.restore(escapes.write("a <b> s")) == "a <b> s"


def test_a_tokenizer_that_puts_nothing_back_gets_the_text_itself() -> None:
    escapes = Escapes("", ("<image>",))
    assert escapes.write(f"a < b {QUOTE}") == f"a < b {QUOTE}"
    with pytest.raises(InvalidInput, match="<image>"):
        escapes.write("the <image> tag")


def test_the_texts_of_messages_are_rewritten_and_nothing_else() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:<"}}
    messages = [
        {"role": "system", "content": "<a>", "name": "<n>"},
        {"role": "user", "content": [image, {"type": "text", "text": "<b>", "cache_control": {"type": "<c>"}}, "odd"]},
        {"role": "assistant", "content": None},
    ]
    shouted = write_messages(messages, lambda text: text.replace("<", "!"))
    assert shouted == [
        {"role": "system", "content": "!a>", "name": "<n>"},
        {"role": "user", "content": [image, {"type": "text", "text": "!b>", "cache_control": {"type": "<c>"}}, "odd"]},
        {"role": "assistant", "content": None},
    ]
