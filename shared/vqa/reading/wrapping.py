"""The decoration that models put around an answer.

Only what wraps the whole text in a pair is decoration: ``**5**`` is 5, but ``5*``, ``#23``, ``__init__``, ``$5`` and
``<br>`` are answers.
"""

from __future__ import annotations

import re

DEEPEST = 8
_QUOTES = {'"': '"', "'": "'", "“": "”", "„": "“”", "‚": "‘’", "‘": "’", "”": "”", "’": "’", "«": "»", "»": "«"}
_QUOTES |= {"‹": "›", "「": "」", "『": "』", "《": "》", "〈": "〉", "＂": "＂", "`": "`´'"}
_APOSTROPHE = re.compile(r"(?<=\w)['’](?=\w)")
_EMPHASIS = ("***", "**", "~~", "*")
_UNDERSCORES = ("___", "__", "_")
_FENCE = re.compile(r"(`{3,}|~{3,})[ \t]*([\w+#.-]{0,20})[ \t]*\n(.*?)\n?[ \t]*\1", re.DOTALL)
_LINE_FENCE = re.compile(r"(`{2,})(?!`)[ \t]*(.*?)[ \t]*(?<!`)\1", re.DOTALL)
_LANGUAGES = frozenset(
    [
        "text",
        "txt",
        "plain",
        "plaintext",
        "md",
        "markdown",
        "json",
        "latex",
        "tex",
        "html",
        "xml",
        "yaml",
        "csv",
        "none",
    ]
)
_MATH = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"))
_COMMAND = re.compile(
    r"\\(?:boxed|fbox|text(?:bf|it|rm|tt|sf|normal)?|math(?:bf|it|rm|tt|sf|bb)|mbox|emph|underline)\s?\{"
)
_BOXED = re.compile(r"\\(?:boxed|fbox)\s?\{")
_ELEMENT = re.compile(
    r"<(answer|final_answer|conclusion|response|solution|output|result|text|b|strong|i|em|u|code|pre|p|span|mark)>"
    r"(.*)</\1>",
    re.IGNORECASE | re.DOTALL,
)
_ANSWER = re.compile(r"<(answer|final_answer|conclusion)>\s*(.*?)\s*(?:</\1>|\Z)", re.IGNORECASE | re.DOTALL)
_BOX_TOKENS = re.compile(r"<\|begin_of_(box|solution)\|>(.*?)(?:<\|end_of_\1\|>|\Z)", re.DOTALL)
_END_TOKENS = re.compile(
    r"(?:[ \t]{0,8}(?:<[|\uff5c][\w▁]{1,40}[|\uff5c]>|</s>|<end_of_turn>|<eos>|<turn\|>|</answer>|"
    r"</response>|</conclusion>))+[ \t]{0,8}$",
    re.IGNORECASE | re.MULTILINE,
)


def without_end_tokens(text: str) -> str:
    """The text without the special tokens at the ends of its lines."""
    return _END_TOKENS.sub("", text)


def marked_answer(text: str) -> str | None:
    """What ``text`` itself marks as its answer: <answer>, \\boxed{…} or a box of GLM's. None if it marks nothing."""
    for pattern in (_ANSWER, _BOX_TOKENS):
        found = _last(pattern, text)
        if found is not None:
            return found[2]
    boxed = _last(_BOXED, text)
    end = _closing_brace(text, boxed.end()) if boxed is not None else None
    return text[boxed.end() : end] if boxed is not None and end is not None else None


def unfenced(text: str) -> str:
    """The content of a code fence around the whole text, without the fence's language."""
    text = text.strip()
    block = _FENCE.fullmatch(text)
    if block is not None:
        return block[3].strip()
    line = _LINE_FENCE.fullmatch(text)
    if line is None or line[1] in line[2]:
        return text
    first, space, rest = line[2].partition(" ")
    return rest.strip() if space and first.lower() in _LANGUAGES else line[2]


def unwrapped(text: str) -> str:
    """White space collapsed, and every pair that wraps the whole text removed."""
    text = " ".join(text.split())
    for _ in range(DEEPEST):
        inner = " ".join(_inside(text).split())
        if inner == text:
            break
        text = inner
    return text


def _inside(text: str) -> str:
    """The text without its outermost pair, or the text itself."""
    for inside in (_in_fence, _in_quotes, _in_emphasis, _in_math, _in_command, _in_element):
        inner = inside(text)
        if inner is not None:
            return inner
    return text


def _in_fence(text: str) -> str | None:
    inner = unfenced(text) if text.startswith(("``", "~~~")) else text
    return None if inner == text else inner


def _in_quotes(text: str) -> str | None:
    if len(text) < 2 or text[0] not in _QUOTES or text[-1] not in _QUOTES[text[0]]:
        return None
    inner = text[1:-1]
    between = _APOSTROPHE.sub("", inner)
    return None if text[0] in between or text[-1] in between else inner


def _in_emphasis(text: str) -> str | None:
    for mark in _EMPHASIS + _UNDERSCORES:
        inner = _between(text, mark, mark)
        # __init__ and _id_ are names, but no name holds a space.
        if inner is not None and mark[0] not in inner and (mark[0] != "_" or " " in inner):
            return inner
    return None


def _in_math(text: str) -> str | None:
    for opening, closing in _MATH:
        inner = _between(text, opening, closing, tight=opening == "$")
        if inner is not None and opening not in inner and closing not in inner and "$" not in inner:
            return inner
    return None


def _in_command(text: str) -> str | None:
    command = _COMMAND.match(text)
    if command is None or _closing_brace(text, command.end()) != len(text) - 1:
        return None
    return text[command.end() : -1]


def _in_element(text: str) -> str | None:
    element = _ELEMENT.fullmatch(text)
    return None if element is None or f"</{element[1]}" in element[2] else element[2]


def _between(text: str, opening: str, closing: str, *, tight: bool = True) -> str | None:
    """What stands between the two marks. ``tight``: only if no space follows the first or comes before the second."""
    if len(text) <= len(opening) + len(closing) or not (text.startswith(opening) and text.endswith(closing)):
        return None
    inner = text[len(opening) : len(text) - len(closing)]
    return None if tight and inner != inner.strip() else inner


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    found = None
    for found in pattern.finditer(text):  # noqa: B007
        pass
    return found


def _closing_brace(text: str, start: int) -> int | None:
    """Where the brace that was opened just before ``start`` is closed."""
    depth = 1
    for at in range(start, len(text)):
        depth += (text[at] == "{") - (text[at] == "}")
        if depth == 0:
            return at
    return None
