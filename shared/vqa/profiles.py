"""What a task profile is: how a task's questions are asked for, answered, read and compared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.vqa.agreement import AgreementRule, usual_rule
from shared.vqa.metrics import MetricName
from shared.vqa.parsing import ParserKind, clean_answer, parse_pair, parse_question
from shared.vqa.reading.refusals import BUILT_IN, declines

PAIR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"question": {"type": "string"}, "answer": {"type": "string"}},
    "required": ["question", "answer"],
    "additionalProperties": False,
}
REFUSALS = (BUILT_IN,)


@dataclass(frozen=True)
class Prompts:
    """The prompts for the teacher. ``answer`` has the placeholder ``{question}``; the student gets it too.

    The ``ask…`` prompts may have the placeholder ``{example}``, which becomes " Ask something like: …" or nothing. The
    ``_json`` prompts are used if the server can enforce a JSON schema; if they are empty, the plain ones are used.
    ``explain`` asks for one sentence on why ``{answer}`` is the answer to ``{question}``, and ``check`` asks whether it
    is, yes or no. ``answerable`` asks, without the image, whether ``{answer}`` answers ``{question}`` at all: an answer
    "no" makes it a refusal. If one is empty, the task has no such question.
    """

    ask: str
    ask_and_answer: str
    answer: str
    ask_json: str = ""
    ask_and_answer_json: str = ""
    explain: str = ""
    check: str = ""
    answerable: str = ""


@dataclass(frozen=True)
class TaskProfile:
    """One task.

    ``metric`` scores a benchmark. ``agreement`` says what is forgiven when two models' answers are compared; None: what
    is usual with the metric. Token limits bound what the model may write; a limit is multiplied by ``raise_limit_by``,
    once, for a text that was cut off (1: never). ``json_schema``, if given, describes a one-shot pair, and its
    ``question`` property a question alone. Servers that support it are asked to enforce it.
    """

    name: str
    metric: MetricName
    prompts: Prompts
    parser: ParserKind = "tagged"
    max_question_tokens: int = 64
    max_answer_tokens: int = 24
    max_rationale_tokens: int = 64
    raise_limit_by: int = 4
    refusals: tuple[str, ...] = REFUSALS
    description: str = ""
    agreement: AgreementRule | None = None
    json_schema: Mapping[str, Any] | None = field(default=None, hash=False)

    def ask_prompt(self, *, as_json: bool = False, example: str = "") -> str:
        """Asks for a question alone (two-step), one like ``example`` if the prompt has a place for it."""
        return _with_example((as_json and self.prompts.ask_json) or self.prompts.ask, example)

    def ask_and_answer_prompt(self, *, as_json: bool = False, example: str = "") -> str:
        """Asks for a question with its answer (one-shot)."""
        return _with_example((as_json and self.prompts.ask_and_answer_json) or self.prompts.ask_and_answer, example)

    def response_format(self, *, pair: bool) -> dict[str, Any] | None:
        """OpenAI's ``response_format`` for a pair or for a question alone; None where the profile has no schema."""
        if self.json_schema is None:
            return None
        name, schema = (
            ("question_and_answer", dict(self.json_schema)) if pair else ("question", self._question_schema())
        )
        return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}

    def _question_schema(self) -> dict[str, Any]:
        assert self.json_schema is not None
        question = {"question": self.json_schema["properties"]["question"]}
        return {**self.json_schema, "properties": question, "required": ["question"]}

    @property
    def rule(self) -> AgreementRule:
        """What is forgiven when two answers are compared."""
        return self.agreement or usual_rule(self.metric)

    def answer_prompt(self, question: str) -> str:
        """Asks ``question``; braces in it are not placeholders."""
        return self.prompts.answer.replace("{question}", question)

    def answer_limit(self, expected: str) -> int:
        """Tokens allowed to a model whose answer is compared with ``expected``: the raised limit if it may need that.

        A token is at least a byte, and the end of the answer is a token too. So both sides of a comparison have room
        for the same answers, and a rambling answer to a short one is cut off early.
        """
        fits = len(expected.encode(errors="replace")) < self.max_answer_tokens
        return self.max_answer_tokens * (1 if fits else self.raise_limit_by)

    def explain_prompt(self, question: str, answer: str) -> str:
        """Asks why ``answer`` is right; "" if the task has no rationales. Braces in either are not placeholders."""
        return _filled(self.prompts.explain, question, answer)

    def check_prompt(self, question: str, answer: str) -> str:
        """Asks whether ``answer`` is right; "" if the task has no such question."""
        return _filled(self.prompts.check, question, answer)

    def answerable_prompt(self, question: str, answer: str) -> str:
        """Asks whether ``answer`` is an answer at all; "" if the task has no such question."""
        return _filled(self.prompts.answerable, question, answer)

    def parse_question(self, text: str) -> str | None:
        """The question the teacher wrote, None if there is none."""
        return parse_question(text, self.parser)

    def parse_pair(self, text: str) -> tuple[str, str] | None:
        """The (question, answer) the teacher wrote, None unless both are present."""
        return parse_pair(text, self.parser)

    def clean_answer(self, text: str) -> str:
        """A short answer without tag, markup, quotes or closing period; "" if nothing is left."""
        return clean_answer(text)

    def is_refusal(self, answer: str) -> bool:
        """Whether the answer declines, by the profile's ``refusals`` (see shared/vqa/reading/refusals.py)."""
        return declines(answer, self.refusals)


def _filled(prompt: str, question: str, answer: str) -> str:
    parts = re.split(r"(\{question\}|\{answer\})", prompt)
    given = {"{question}": question, "{answer}": answer}
    return "".join(given.get(part, part) for part in parts)


def _with_example(prompt: str, example: str) -> str:
    """Braces in ``example`` are not placeholders."""
    return prompt.replace("{example}", f' Ask something like: "{example}"' if example else "")
