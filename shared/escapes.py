"""Text from outside, written so that no chat template, processor or tokenizer takes a part of it for a special token.

Templates and processors work on text: in a rendered prompt, an ``<image>`` that a user typed looks like one that stands
for an image. So every character of a text from outside that can open a special token is replaced by a private character
that stands for it. The tokenizer first looks for special tokens, and then puts the characters back
(shared/literal.py): the model reads the text exactly as it came.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.errors import InvalidInput

OPENERS = "<["
"""They open nearly all special tokens, and are escaped for every tokenizer: processors also look for other marks."""
QUOTE = "\U0010fffd"
"""Begins what stands for a character of this scheme, if a text has one of its own."""
_STANDS_FOR, _QUOTED = 0x100000, 0xF0000
"""Private planes: places of the characters that stand for others, and of those that follow a quote."""


@dataclass(frozen=True)
class Escapes:
    """How texts from outside are written for one tokenizer.

    ``openers``: the characters to replace; none for a tokenizer that does not put them back. ``refused``: special
    tokens that the tokenizer would recognise even so.
    """

    openers: str = OPENERS
    refused: tuple[str, ...] = ()
    _table: dict[int, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        table = str.maketrans({char: written for written, char in self.rules()})
        object.__setattr__(self, "_table", table)

    def rules(self) -> list[tuple[str, str]]:
        """What is written, and the character that it stands for, in the order in which they must be put back.

        An opener is one character, not two: some tokenizers treat the first character of a prompt in a special way.
        """
        if not self.openers:
            return []
        single = [(chr(_STANDS_FOR + ord(char)), char) for char in self.openers]
        quoted = [(QUOTE + chr(_QUOTED + ord(char)), chr(_STANDS_FOR + ord(char))) for char in self.openers]
        return [*single, *quoted, (QUOTE + chr(_QUOTED), QUOTE)]

    def write(self, text: str) -> str:
        """``text`` as the tokenizer has to get it. Raises InvalidInput for a special token that cannot be a text."""
        for token in self.refused_in(text):
            raise InvalidInput(
                f"The text {text[:200]!r} holds {token!r}, which this model's tokenizer reads as a special token "
                "even in plain text: leave it out."
            )
        return text.translate(self._table)

    def refused_in(self, text: str) -> list[str]:
        """The special tokens in ``text`` that cannot be read as text; also those that normalising would reveal."""
        if not self.refused:
            return []
        plain = unicodedata.normalize("NFKC", text)
        return [token for token in self.refused if token in text or token in plain]

    def changes(self, texts: Iterable[str]) -> bool:
        """Whether any of ``texts`` must be written in another way."""
        return any(text.translate(self._table) != text for text in texts)

    def restore(self, text: str) -> str:
        """``text`` as it was before `write`."""
        for written, char in self.rules():
            text = text.replace(written, char)
        return text


def write_messages(messages: Sequence[dict[str, Any]], write: Callable[[str], str]) -> list[dict[str, Any]]:
    """Chat messages of OpenAI's shape, or turns of a chat template, with all their texts rewritten."""
    return [{**message, "content": _write_content(message.get("content"), write)} for message in messages]


def _write_content(content: Any, write: Callable[[str], str]) -> Any:
    if isinstance(content, str):
        return write(content)
    if isinstance(content, list):
        return [_write_part(part, write) for part in content]
    return content


def _write_part(part: Any, write: Callable[[str], str]) -> Any:
    is_text = isinstance(part, dict) and isinstance(part.get("text"), str)
    return {**part, "text": write(part["text"])} if is_text else part
