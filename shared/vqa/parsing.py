"""Read questions and answers out of what a teacher wrote: tagged text or JSON, with the decoration that models add."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal

ParserKind = Literal["tagged", "json"]
LONGEST_QUESTION = 300
LONGEST_ANSWER = 500

LONGEST_TEXT = 20_000
MOST_BRACES = 20

# All repetitions are bounded: what a teacher writes must not be able to make a pattern backtrack for long.
_LEAD = r"^[ \t>*#\-–•(\[\d.)]{0,12}"


def _tag(short: str, word: str) -> re.Pattern[str]:
    """``word:`` or ``<word>`` anywhere, ``short:`` at the start of a line, ``word`` alone on one, perhaps numbered."""
    number = r"\s{0,4}\d{0,3}"
    tagged = rf"(?:{_LEAD}{short}|\b{word}){number}[)\]]?\s{{0,4}}[:\uff1a]"
    pattern = rf"{tagged}|<{word}>|{_LEAD}{short}\d{{1,3}}\.[ \t]|{_LEAD}{word}{number}[ \t]{{0,8}}$"
    return re.compile(pattern, re.IGNORECASE | re.MULTILINE)


_QUESTION_TAG = _tag("q(?:uestion)?", "question")
_ANSWER_TAG = _tag("a(?:ns(?:wer)?)?", "answer")
_MARKUP = re.compile(
    r"\*\*|__|`{1,3}(?:json)?|^[ \t]*#{1,6}[ \t]*|</(?:question|answer|s)>|<\|\w{1,32}\|>|<end_of_turn>|<eos>",
    re.IGNORECASE | re.MULTILINE,
)
_ALMOST_JSON = re.compile(
    r"""(["'])(question|answer)\1\s{0,4}:\s{0,4}(?:"([^"\n]{0,600})"|'([^\n]{0,600}?)')\s{0,4}(?=[,}\n]|$)""",
    re.IGNORECASE,
)
_LEAD_IN = re.compile(r"(?:the|my) answer is:?\s+", re.IGNORECASE)
_ASKING = re.compile(r"[^?\uff1f]*[?\uff1f][\"'”’»]?")
_NUMBERING = re.compile(r"^\s*(?:[-•*>]\s+|\(?\d+[.):]\s+)")
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "<": ">"}
_DECODER = json.JSONDecoder()


def parse_question(text: str, kind: ParserKind) -> str | None:
    """The first question in ``text``, None if there is none.

    Reads a JSON object with "question" and, for ``tagged`` only, a "Question:" tag or else the first line that asks.
    Without a tag, a text must contain a question mark; otherwise a question that was cut off would count.
    """
    found = _from_json(text)
    if found is not None:
        return _question(found.get("question"))
    if kind == "json":
        return None
    plain = _plain(text)
    tag = _QUESTION_TAG.search(plain)
    if tag is not None:
        return _question(_before_answer(plain[tag.end() :]))
    return _first_asking_line(plain)


def parse_pair(text: str, kind: ParserKind) -> tuple[str, str] | None:
    """The first question with its answer, None unless both are present and not empty; tags on one line or several.

    The answer must be tagged; the question may be a line that asks, before it.
    """
    found = _from_json(text)
    if found is not None:
        return _pair(found.get("question"), found.get("answer"))
    if kind == "json":
        return None
    plain = _plain(text)
    tag = _QUESTION_TAG.search(plain)
    rest = plain if tag is None else plain[tag.end() :]
    answer_tag = _answer_tag(rest)
    if answer_tag is None:
        return None
    asked, answered = rest[: answer_tag.start()], rest[answer_tag.end() :]
    if _QUESTION_TAG.search(asked) is not None:
        return None
    next_question = _QUESTION_TAG.search(answered)
    answer = _first_line(answered if next_question is None else answered[: next_question.start()])
    return _pair(_first_asking_line(asked) if tag is None else asked, answer)


def clean_answer(text: str) -> str:
    """A short answer without tag, markup, quotes, closing period or further lines; "" if nothing is left."""
    found = _from_json(text)
    if found is not None and "answer" in found:
        return _undecorated(_text(found["answer"]) or "")
    plain = _plain(text).strip()
    tag = _ANSWER_TAG.match(plain)
    tagged = tag is not None and (plain[tag.end() :].strip() or tag.group().endswith((":", "\uff1a", ">")))
    answer = _undecorated(_first_line(plain[tag.end() :] if tag is not None and tagged else plain))
    answer = _undecorated(_LEAD_IN.sub("", answer, count=1)) if _LEAD_IN.match(answer) else answer
    return answer[:-1].rstrip() if answer.endswith(".") and answer.count(".") == 1 else answer


def _from_json(text: str) -> dict[str, Any] | None:
    """The first JSON object that has a question or an answer, its keys lower-cased and in full."""
    for candidate in _json_objects(text):
        keys = {"q": "question", "a": "answer"}
        named = {keys.get(key.lower(), key.lower()): value for key, value in candidate.items()}
        if "question" in named or "answer" in named:
            return named
    return _from_almost_json(text)


def _from_almost_json(text: str) -> dict[str, Any] | None:
    """The first whole question and answer of an object that was cut off or written with single quotes."""
    named: dict[str, Any] = {}
    for found in _ALMOST_JSON.finditer(_said(text)):
        named.setdefault(found[2].lower(), found[3] if found[3] is not None else found[4])
    return named or None


def _said(text: str) -> str:
    """The text without the reasoning that some teachers put first."""
    return text[:LONGEST_TEXT].rpartition("</think>")[2]


def _plain(text: str) -> str:
    return _MARKUP.sub("", _said(text))


def _answer_tag(text: str) -> re.Match[str] | None:
    """The first answer tag that follows a question mark or begins a line, or else the first ("... the answer: ...")."""
    first = None
    for tag in _ANSWER_TAG.finditer(text):
        before = text[: tag.start()].rstrip(" \t")
        if before.endswith(("?", "\uff1f", "\n")):
            return tag
        first = first or tag
        if tag.start() > LONGEST_QUESTION * 2:
            break
    return first


def _json_objects(text: str) -> Iterator[dict[str, Any]]:
    text = _said(text)
    start = text.find("{")
    for _ in range(MOST_BRACES):
        if start < 0:
            return
        try:
            value, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            if isinstance(value, dict):
                yield value
        start = text.find("{", end)


def _pair(question: object, answer: object) -> tuple[str, str] | None:
    asked, answered = _question(question), clean_answer(_text(answer) or "")
    if asked is None or not answered or len(answered) > LONGEST_ANSWER:
        return None
    return asked, answered


def _question(value: object) -> str | None:
    question = _undecorated(_text(value) or "")
    sensible = 0 < len(question) <= LONGEST_QUESTION and any(char.isalpha() for char in question)
    return question if sensible else None


def _text(value: object) -> str | None:
    """JSON strings as they are, numbers and booleans as text; lists and objects are not answers."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if isinstance(value, (str, int, float)) else None


def _before_answer(text: str) -> str:
    answer_tag = _answer_tag(text)
    return _first_line(text if answer_tag is None else text[: answer_tag.start()])


def _first_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.strip()), "")


def _first_asking_line(text: str) -> str | None:
    for line in text.splitlines():
        asking = _ASKING.match(line)
        if asking is not None:
            return _question(_NUMBERING.sub("", asking.group()))
    return None


def _undecorated(text: str) -> str:
    """White space collapsed, matching quotes around the whole removed."""
    text = " ".join(text.split()).strip("*_ ")
    while len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
        text = text[1:-1].strip()
    return text
