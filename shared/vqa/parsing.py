"""Read questions and answers out of what a teacher wrote: tagged text or JSON, with the decoration that models add."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal

from shared.vqa.reading.questions import asking_part, ends_with_mark
from shared.vqa.reading.reasoning import set_apart
from shared.vqa.reading.tags import ANSWER_PREFIX, ANSWER_TAG, QUESTION_TAG, after
from shared.vqa.reading.wrapping import DEEPEST, marked_answer, unfenced, unwrapped, without_end_tokens

ParserKind = Literal["tagged", "json"]
LONGEST_QUESTION = 300
LONGEST_ANSWER = 500

LONGEST_TEXT = 20_000
MOST_BRACES = 20

_ALMOST_JSON = re.compile(
    r"""(["'])(question|answer)\1\s{0,4}:\s{0,4}(?:"([^"\n]{0,600})"|'([^\n]{0,600}?)')\s{0,4}(?=[,}\n]|$)""",
    re.IGNORECASE,
)
# "The answer is red." but not "The answer is blowing in the wind", which is a title.
_LEAD_IN = re.compile(
    r"(?:the|my) (?:final |correct )?answer is(?::\s*|\s+(?=[\"'*`$\\“]|\S+(?: \S+){0,2}$|[^.]{1,80}\.$))",
    re.IGNORECASE,
)
_NUMBERING = re.compile(r"^\s*(?:[-•*>]\s+|\(?\d+[.):]\s+)")
_STOPS = (".", "。", "．", "।", "۔", "։")
_CLOSING_TAG = re.compile(r"</(?:question|answer)>", re.IGNORECASE)
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
    tag = QUESTION_TAG.search(plain)
    if tag is not None:
        return _question(_before_answer(after(plain, tag)))
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
    tag = QUESTION_TAG.search(plain)
    rest = plain if tag is None else after(plain, tag)
    answer_tag = _answer_tag(rest)
    if answer_tag is None:
        return None
    asked, answered = rest[: answer_tag.start()], after(rest, answer_tag)
    if QUESTION_TAG.search(asked) is not None:
        return None
    next_question = QUESTION_TAG.search(answered)
    answer = _first_line(answered if next_question is None else answered[: next_question.start()])
    return _pair(_first_asking_line(asked) if tag is None else asked, answer)


def clean_answer(text: str) -> str:
    """A short answer without reasoning, tag, decoration, closing period or further lines; "" if nothing is left.

    Decoration is only what wraps the whole answer in a pair: "**5**" is 5, but "#23" and "__init__" stay.
    """
    found = _from_json(text)
    if found is not None and "answer" in found:
        return _bare(_text(found["answer"]) or "")
    said = without_end_tokens(_said(text)).strip()
    marked = marked_answer(said)
    if marked is not None:
        return _bare(_first_line(unfenced(marked)))
    said = unfenced(said)
    tag = ANSWER_PREFIX.search(said)
    rest = after(said, tag).strip() if tag is not None else ""
    if rest or (tag is not None and tag.group().rstrip().endswith((":", "\uff1a"))):
        said = rest
    return _bare(_first_line(unfenced(said)))


def _bare(text: str) -> str:
    """The answer without what wraps it, a leading "The answer is" and one closing period."""
    for _ in range(DEEPEST):
        before, text = text, unwrapped(text)
        text = _LEAD_IN.sub("", text, count=1) if _LEAD_IN.match(text) else text
        text = text[:-1].rstrip() if text.endswith(_STOPS) and text.count(text[-1]) == 1 else text
        if text == before:
            break
    return text


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
    return set_apart(text).said[:LONGEST_TEXT]


def _plain(text: str) -> str:
    return without_end_tokens(_said(text))


def _answer_tag(text: str) -> re.Match[str] | None:
    """The first answer tag that follows a question mark or begins a line, or else the first ("... the answer: ...")."""
    first = None
    for tag in ANSWER_TAG.finditer(text):
        before = text[: tag.start()].rstrip(" \t")
        if before.endswith("\n") or ends_with_mark(before):
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
    question = _without_emphasis(unwrapped(_CLOSING_TAG.sub("", _text(value) or "")))
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
        part = asking_part(line)
        if part is not None:
            return _question(_NUMBERING.sub("", part))
    return None


def _without_emphasis(question: str) -> str:
    """A question without angle brackets around it, or half of an emphasis that was closed after it."""
    if question.startswith("<") and question.endswith(">"):
        question = question[1:-1].strip()
    for mark in ("**", "__", "*"):
        if question.startswith(mark) and mark not in question[len(mark) :]:
            return question.removeprefix(mark).strip()
    return question.removesuffix("**").strip()
