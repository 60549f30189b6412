"""How a model's reply ended: with a whole text, cut off, still thinking, empty, or withheld by its server."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from shared.contracts import ChatResponse, Choice
from shared.vqa.reading.questions import marked_part
from shared.vqa.reading.reasoning import set_apart
from shared.vqa.reading.wrapping import without_end_tokens

SHOWN = 200
# What OpenAI, vLLM, Mistral, Cohere, Google and DeepSeek call it in ``finish_reason``.
_CUT_OFF = {"length", "max_tokens", "max_output_tokens", "max_new_tokens", "max_length", "model_length", "token_limit"}
_WITHHELD = {
    "content_filter",
    "safety",
    "recitation",
    "prohibited_content",
    "blocklist",
    "spii",
    "refusal",
    "sensitive",
}
_BROKEN_OFF = {"error", "abort", "aborted", "cancelled", "canceled", "timeout", "insufficient_system_resource"}


class Ending(StrEnum):
    """How a reply ended."""

    WHOLE = "whole"
    CUT_OFF = "cut off"
    THINKING = "still thinking"
    EMPTY = "empty"
    WITHHELD = "withheld"
    BROKEN_OFF = "broken off"


@dataclass(frozen=True)
class Reply:
    """What a model said. ``text`` is without its reasoning and, if the reply was cut off, ends where it was cut.

    ``reasoned``: there was reasoning, in the text or apart from it. ``detail``: what the server said about the ending.
    """

    text: str
    ending: Ending = Ending.WHOLE
    reasoned: bool = False
    detail: str = ""

    @property
    def whole(self) -> bool:
        return self.ending is Ending.WHOLE

    @property
    def visibly_thinking(self) -> bool:
        """Whether it ends within its reasoning, and shows it. A student that says nothing at all is not thinking."""
        return self.ending is Ending.THINKING and self.reasoned

    @property
    def settled(self) -> str:
        """The part of ``text`` that a cut cannot have changed: whole lines, JSON, and a last line's question."""
        if self.ending is not Ending.CUT_OFF or "{" in self.text:
            return self.text
        lines, newline, last = self.text.rpartition("\n")
        return f"{lines}{newline}{marked_part(last) or ''}"

    def problem(self, what: str, limit: int) -> str:
        """Why ``what`` ("The teacher's answer") cannot be used, in a sentence. ``limit``: tokens that were allowed."""
        shown = repr(self.text.strip()[:SHOWN])
        reasons = {
            Ending.CUT_OFF: f"was cut off after {limit} tokens: {shown}",
            Ending.THINKING: f"did not begin: the model was still thinking after {limit} tokens",
            Ending.EMPTY: "is empty: nothing follows the model's reasoning" if self.reasoned else "is empty",
            Ending.WITHHELD: f"was withheld by the model's server: {self.detail}",
            Ending.BROKEN_OFF: f"was broken off by the model's server: {self.detail}",
            Ending.WHOLE: f"is whole: {shown}",
        }
        return f"{what} {reasons[self.ending]}."


def read_reply(text: str | None, finish_reason: str | None = None, reasoning: str = "", refusal: str = "") -> Reply:
    """``reasoning`` and ``refusal`` are what the server sent apart from the text."""
    thought = set_apart(text or "")
    reasoned = thought.reasoned or bool(reasoning.strip())
    said = bool(without_end_tokens(thought.said).strip())
    end = (finish_reason or "").lower()
    detail = refusal or end
    if end in _WITHHELD or (refusal and not said):
        return Reply(thought.said, Ending.WITHHELD, reasoned, detail)
    if end in _BROKEN_OFF:
        return Reply(thought.said, Ending.BROKEN_OFF, reasoned, detail)
    # A text that is empty when its tokens are used up was preceded by reasoning that the server does not show.
    if thought.unfinished or (end in _CUT_OFF and not said):
        return Reply("", Ending.THINKING, reasoned, detail)
    if end in _CUT_OFF:
        return Reply(thought.said, Ending.CUT_OFF, reasoned, detail)
    return Reply(thought.said, Ending.WHOLE if said else Ending.EMPTY, reasoned, detail)


def read_choice(choice: Choice) -> Reply:
    message = choice.message
    reasoning = message.reasoning or message.reasoning_content or ""
    return read_reply(message.content, choice.finish_reason, reasoning, message.refusal or "")


def first_reply(response: ChatResponse) -> Reply:
    """The first choice; an empty reply if there is none."""
    return read_choice(response.choices[0]) if response.choices else Reply("", Ending.EMPTY)
