"""Tokenizers of every kind read texts from outside as text, and all other texts as before."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tokenizers import AddedToken

from shared.errors import InvalidInput
from shared.literal import escapes_of, marks_of
from tests.tiny_tokenizers import ADDED_WORDS, BASICS, KINDS, LOSSLESS, MARKS, NOT_SPECIAL, build_tokenizer

ALL = [*BASICS, *MARKS, *NOT_SPECIAL]
PATTERNS = ["{}", "the {} tag", "{}\nwhat colour is it?", "a{}b", "{}{}", "x < 5 {} [y]", "é {} 日本", "  {}  "]
WORDS = [
    "the image",
    "tag",
    " ",
    "row",
    "<",
    ">",
    "[x]",
    "|",
    "a<b",
    "\n",
    "myocardium",
    "    ",
    "é",
    "日本",
    "<|",
    "</",
]


@dataclass(frozen=True)
class Both:
    """The same tokenizer as it was, and after it has learned to read texts from outside."""

    plain: Any
    literal: Any

    def ids(self, text: str) -> list[int]:
        written = escapes_of(self.literal).write(text)
        return list(self.literal(written, add_special_tokens=False)["input_ids"])

    def plain_ids(self, text: str) -> list[int]:
        return list(self.plain(text, add_special_tokens=False)["input_ids"])

    @property
    def mark_ids(self) -> set[int]:
        return set(self.plain.convert_tokens_to_ids(ALL)) - {self.plain.unk_token_id}


@cache
def both(kind: str, normalized: bool) -> Both:
    made = build_tokenizer(kind, normalized=normalized)
    return Both(deepcopy(made), made)


@pytest.fixture(params=[(kind, normalized) for kind in KINDS for normalized in (False, True)], ids=str)
def tokenizers(request: pytest.FixtureRequest) -> Both:
    return both(*request.param)


def test_no_special_token_comes_from_a_text(tokenizers: Both) -> None:
    for text in (pattern.replace("{}", mark) for pattern in PATTERNS for mark in ALL):
        if escapes_of(tokenizers.literal).refused_in(text):
            with pytest.raises(InvalidInput, match="special token"):
                tokenizers.ids(text)
            continue
        assert not set(tokenizers.ids(text)) & tokenizers.mark_ids, text


@pytest.mark.parametrize("kind", LOSSLESS)
@given(text=st.lists(st.sampled_from([*ALL, *(word for word in WORDS if word not in ADDED_WORDS)])).map("".join))
@hypothesis_settings(max_examples=60, deadline=None)
def test_what_is_read_decodes_to_the_text(kind: str, text: str) -> None:
    tokenizers = both(kind, False)
    for decode in ({"skip_special_tokens": True}, {}):
        decoded = tokenizers.literal.decode(tokenizers.ids(text), **decode)
        if kind in ("byte_level", "composed"):
            assert decoded == text
        else:  # these kinds take white space for a mark, and one at the beginning for their own
            assert decoded.strip() == text.replace("▁", " ").strip()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalized", [False, True])
@given(text=st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=4))).map("".join))
@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_a_text_without_special_tokens_is_read_as_ever(kind: str, normalized: bool, text: str) -> None:
    tokenizers = both(kind, normalized)
    plain = tokenizers.plain_ids(text)
    if not set(plain) & tokenizers.mark_ids:
        assert tokenizers.ids(text) == plain


@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_special_token_is_split_as_the_tokenizer_itself_splits_it(kind: str) -> None:
    tokenizers = both(kind, False)
    for text in (f"the {mark} tag" for mark in MARKS):
        wanted = tokenizers.plain(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert tokenizers.ids(text) == wanted


def test_special_tokens_of_a_template_stay_special(tokenizers: Both) -> None:
    written = escapes_of(tokenizers.literal).write("a <image> <|im_end|>")
    found = tokenizers.literal(f"<|im_start|><image>{written}<|im_end|>", add_special_tokens=False)["input_ids"]
    special = [token for token in found if token in tokenizers.mark_ids]
    assert tokenizers.literal.convert_ids_to_tokens(special) == ["<|im_start|>", "<image>", "<|im_end|>"]


def test_parts_of_a_special_token_do_not_meet(tokenizers: Both) -> None:
    write = escapes_of(tokenizers.literal).write
    for joined in (write("<ima") + write("ge>"), write("<im") + "age>", write("<|im_end|") + ">"):
        found = tokenizers.literal(joined, add_special_tokens=False)["input_ids"]
        assert not set(found) & tokenizers.mark_ids


def test_wide_brackets_do_not_become_special_when_they_are_normalised(tokenizers: Both) -> None:
    assert not set(tokenizers.ids("the ＜image＞ tag ＜｜im_end｜＞")) & tokenizers.mark_ids


def test_added_words_and_white_space_are_text(tokenizers: Both) -> None:
    assert not set(ADDED_WORDS) & set(marks_of(tokenizers.literal))
    for word in ADDED_WORDS:
        assert tokenizers.ids(f"a {word} b") == tokenizers.plain_ids(f"a {word} b")


@pytest.mark.parametrize("odd", ["§§start§§", "USER", "▁<PRE>", "🙂pad", "\x00nul", "#"])
def test_special_tokens_with_other_signs_are_text_too_or_refused(odd: str) -> None:
    tokenizer = deepcopy(both("byte_level", False).plain)
    tokenizer.add_tokens([AddedToken(odd, special=True, normalized=False)], special_tokens=True)
    escapes = escapes_of(tokenizer)
    number = tokenizer.convert_tokens_to_ids(odd)
    assert number in tokenizer(f"a {odd} b")["input_ids"]
    if escapes.refused_in(odd):
        with pytest.raises(InvalidInput):
            escapes.write(f"a {odd} b")
        return
    ids = tokenizer(escapes.write(f"a {odd} b"))["input_ids"]
    assert number not in ids and tokenizer.decode(ids) == f"a {odd} b"


def test_a_tokenizer_is_changed_once_and_its_copies_read_alike() -> None:
    tokenizer = deepcopy(both("composed", False).plain)
    first = escapes_of(tokenizer)
    parts = str(tokenizer.backend_tokenizer.normalizer)
    assert escapes_of(tokenizer) is first and str(tokenizer.backend_tokenizer.normalizer) == parts
    other = deepcopy(tokenizer)
    text = escapes_of(other).write("the <image> tag")
    assert other(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_padding_that_a_tokenizer_brings_along_is_no_special_token_of_a_text() -> None:
    tokenizer = deepcopy(both("byte_level", False).plain)
    tokenizer.backend_tokenizer.enable_padding(pad_id=tokenizer.pad_token_id, pad_token="<pad>", length=32)
    assert escapes_of(tokenizer).refused == ()


class OldTokenizer:
    """A tokenizer that is not of the tokenizers library."""

    all_special_tokens = ("<image>", "</s>")

    def get_added_vocab(self) -> dict[str, int]:
        return {"<extra>": 9}


def test_a_tokenizer_of_another_library_refuses_special_tokens_and_takes_all_else() -> None:
    escapes = escapes_of(OldTokenizer())
    assert escapes.write("a < b [c]") == "a < b [c]"
    for text in ("the <image> tag", "</s>", "an <extra>"):
        with pytest.raises(InvalidInput, match="leave it out"):
            escapes.write(text)
