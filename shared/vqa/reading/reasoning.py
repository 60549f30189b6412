"""The reasoning that some models write before they answer, and the markers that set it apart.

The markers are those of public models: <think> (DeepSeek, Qwen, GLM, InternVL and many more), <thought> (EXAONE),
<reasoning> (Reka), <seed:think>, [THINK] (Mistral), ◁think▷ (Kimi-VL), <|START_THINKING|> (Command),
<|begin_of_thought|> (OpenThinker), <|channel|>analysis (gpt-oss), <|channel>thought (Gemma), <SUMMARY> … <CONCLUSION>
(LLaVA-CoT), "Here is my thought process:" (Granite), and the like. Chat templates may write the opening marker
themselves, so a closing one alone ends a reasoning as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_WORD = (
    r"(?:think(?:ing)?(?:_fast(?:er)?)?|antthinking|thoughts?|thought_process|reason(?:ing)?|reflection|analysis|"
    r"scratch_?pad|(?:inner|internal)_monologue|chain_of_thought|cot|deliberation|brainstorm|planning)"
)
_NAME = rf"(?:\w{{1,12}}[:|])?{_WORD}(?:[:\s][^<>\n]{{0,40}})?"
_BAR = r"[|\uff5c]"
_OPENING = re.compile(
    rf"""^[ \t]{{0,20}}(?:
        <{_NAME}> | <(?:summary|caption)> | \[{_WORD}\] | ◁{_WORD}▷
        | <{_BAR}(?:(?:begin|start)(?:_of)?_)?{_WORD}{_BAR}>
        | <\|channel\|?>\s{{0,4}}(?:analysis|commentary|thought)
        | <\|im_start\|>\s{{0,4}}think | <\|open\|>\s{{0,4}}think\s{{0,4}}<\|sep\|> | <unused94>
        | here(?:['\u2019]s|\ is)\ my\ thought\ process:
    )""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
_CLOSING = re.compile(
    rf"""
        </{_NAME}> | \[/{_WORD}\] | ◁/{_WORD}▷
        | <{_BAR}(?:/|end(?:_of)?_){_WORD}{_BAR}>
        | <\|channel\|>\s{{0,4}}final(?:\s{{0,4}}<\|constrain\|>\w{{0,12}})?\s{{0,4}}(?:<\|message\|>)? | <channel\|>
        | <\|im_start\|>\s{{0,4}}answer | <\|close\|>\s{{0,4}}think\s{{0,4}}<\|sep\|> | <unused95>
        | <\|(?:start_response|content)\|>
        | ^[ \t]{{0,20}}here(?:['\u2019]s|\ is)\ my\ response:
    """,
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
_ANSWER = re.compile(r"<(?:answer|final_answer|conclusion)>", re.IGNORECASE)
# gpt-oss where the server leaves special tokens out: "analysisThe user asks …assistantfinalRed".
_BARE_OPENING, _BARE_CLOSING = re.compile(r"\s{0,20}analysis(?=[A-Z\"'])"), "assistantfinal"


@dataclass(frozen=True)
class Thought:
    """``said``: the text after the reasoning. ``unfinished``: the reasoning never ends. ``reasoned``: there is some."""

    said: str
    unfinished: bool
    reasoned: bool


def set_apart(text: str) -> Thought:
    """Separate what a model said from its reasoning. A marker inside a line ("the tag <think>") is ordinary text."""
    if _BARE_OPENING.match(text):
        _, closed, said = text.rpartition(_BARE_CLOSING)
        return Thought(said if closed else "", not closed, True)
    end = 0
    for closing in _CLOSING.finditer(text):
        end = closing.end()
    said = text[end:]
    opening = _OPENING.search(said)
    if opening is not None:
        answer = _ANSWER.search(said, opening.end())
        return Thought("" if answer is None else said[answer.start() :], answer is None, True)
    return Thought(said, False, end > 0)
