"""Tokenizers that read texts from outside as nothing but text (see shared/escapes.py).

A tokenizer of the tokenizers library first cuts a text at its special tokens, then normalises what is left. So escapes
are put back as the first step of normalising: what they hide can no longer be cut out as a special token, and is split
into ordinary tokens in its context, as any other text. A text without escapes is read as ever.

This module needs the tokenizers library alone: vLLM's process imports it too (shared/vllm/literal_server.py).
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer, normalizers

from shared.escapes import OPENERS, Escapes

log = logging.getLogger(__name__)
_HELD_AS = "_mpa_escapes"
_LAST_CHARACTER = 0xFFFC
"""Of the plane that has an escape for each of its characters (shared/escapes.py)."""
_ONE_AT_A_TIME = threading.Lock()


def escapes_of(tokenizer: Any) -> Escapes:
    """How texts must be written for ``tokenizer``, which is changed at the first call so that it reads them.

    A tokenizer that is not of the tokenizers library is left alone, and refuses every special token.
    """
    held: Escapes | None = vars(tokenizer).get(_HELD_AS)
    if held is None:
        with _ONE_AT_A_TIME:
            held = vars(tokenizer).get(_HELD_AS) or _read_literally(tokenizer)
            vars(tokenizer)[_HELD_AS] = held
    return held


def marks_of(tokenizer: Any) -> tuple[str, ...]:
    """The texts that ``tokenizer`` reads as something other than text: its special tokens, and others like them."""
    backend = getattr(tokenizer, "_tokenizer", None)
    if isinstance(backend, Tokenizer):
        return tuple(token.content for token in backend.get_added_tokens_decoder().values() if _is_mark(token))
    known = {*getattr(tokenizer, "all_special_tokens", ()), *map(str, getattr(tokenizer, "get_added_vocab", dict)())}
    return tuple(sorted(token for token in known if token.strip()))


def _read_literally(tokenizer: Any) -> Escapes:
    backend, marks = getattr(tokenizer, "_tokenizer", None), marks_of(tokenizer)
    if not isinstance(backend, Tokenizer):
        log.warning("%s cannot read special tokens as text: such texts are refused", type(tokenizer).__name__)
        return Escapes("", marks)
    if any(token.normalized for token in backend.get_added_tokens_decoder().values() if token.content in marks):
        backend = tokenizer._tokenizer = _found_before_normalising(backend, marks)
    openers = {_opener(mark) for mark in marks} | set(OPENERS)
    escapes = Escapes("".join(sorted(char for char in openers if ord(char) <= _LAST_CHARACTER)))
    restoring = [normalizers.Replace(written, char) for written, char in escapes.rules()]
    own = [] if backend.normalizer is None else [backend.normalizer]
    backend.normalizer = normalizers.Sequence([*restoring, *own])
    refused = _still_recognised(backend, escapes, marks, tokenizer.unk_token)
    if refused:
        log.warning("The tokenizer recognises %s even in plain text: texts with them are refused", ", ".join(refused))
    return Escapes(escapes.openers, refused)


def _is_mark(token: Any) -> bool:
    """Whether an added token stands for something other than its text. Added words and white space are text."""
    text = str(token.content).strip()
    return bool(text) and (token.special or (text[0] in "<[{" and text[-1] in ">]}"))


def _opener(mark: str) -> str:
    """The character of ``mark`` to escape: one that is rare in text, if it has such a character."""
    usual = [char for char in OPENERS if char in mark]
    signs = [char for char in mark if not char.isalnum() and not char.isspace()]
    return "".join([*usual, *signs, mark.strip()])[0]


def _found_before_normalising(backend: Tokenizer, marks: Sequence[str]) -> Tokenizer:
    """A copy that looks for all ``marks`` before it normalises: else they would be found where escapes hid them."""
    try:
        content = json.loads(backend.to_str())
        for token in content["added_tokens"]:
            token["normalized"] = token["normalized"] and token["content"] not in marks
        copy = Tokenizer.from_str(json.dumps(content))
    except Exception as error:  # the library raises a bare Exception for parts that it cannot write
        log.warning("The tokenizer cannot be copied (%s)", error)
        return backend
    return copy if _contents(copy) == _contents(backend) else backend


def _contents(backend: Tokenizer) -> dict[int, str]:
    return {number: token.content for number, token in backend.get_added_tokens_decoder().items()}


def _still_recognised(
    backend: Tokenizer, escapes: Escapes, marks: Sequence[str], unknown: str | None
) -> tuple[str, ...]:
    """The marks whose escaped text still becomes a mark's token: some vocabularies hold them as ordinary pieces too."""
    ids = {backend.token_to_id(mark): mark for mark in marks}
    found = []
    for mark in marks:
        encoding = backend.encode(escapes.write(mark), add_special_tokens=False)
        read = [token for token, real in zip(encoding.ids, encoding.attention_mask, strict=True) if real]
        seen = [ids[token] for token in read if token in ids]
        # Characters outside the vocabulary become the unknown token, as in any text.
        if any(one != unknown for one in seen) or (seen and len(read) == 1):
            found.append(mark)
    return tuple(found)
