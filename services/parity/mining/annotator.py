"""Pseudo Annotator: the teacher proposes questions about an image and answers them.

Each (image, task) has ``questions_per_image`` slots, and every slot ends as a Draft: a question with the teacher's
answer, or a verdict that says why there is none.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from services.parity.endpoints.endpoint import RequestRefused, Upstream
from services.parity.images.picture import Picture, derive_seed
from services.parity.mining.question_plan import Asking
from shared.client import image_question
from shared.contracts import AnnotatorSpec, ChatRequest, ChatResponse, Choice, TopLogprob, Verdict
from shared.sets import Alternative
from shared.vqa.answers import normalise_question
from shared.vqa.tasks import TaskProfile

LARGEST_N = 16
SHOWN = 200
JSON_TOKENS = 24  # what keys, quotes and braces take beside the texts

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Draft:
    """A slot on its way through the annotator; with a ``verdict`` it has ended. Tokens are the teacher's.

    ``answer_cost``: prompt and completion tokens of answering this question once, measured or (one-shot) estimated.
    """

    slot: int
    question: str | None = None
    answer: str | None = None
    logprob: float | None = None
    top: tuple[tuple[Alternative, ...], ...] | None = None
    verdict: Verdict | None = None
    reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    answer_cost: tuple[int, int] = (0, 0)

    def ended(self, verdict: Verdict, reason: str) -> Draft:
        return replace(self, verdict=verdict, reason=reason)

    def spent(self, response: ChatResponse) -> Draft:
        """With the tokens of ``response`` added."""
        prompt, completion = tokens_of(response)
        return replace(
            self,
            prompt_tokens=self.prompt_tokens + prompt,
            completion_tokens=self.completion_tokens + completion,
        )


class Annotator:
    """Asks one job's teacher. ``seed`` is the job's, ``top_k`` says how many alternatives a token are asked for."""

    def __init__(self, teacher: Upstream, spec: AnnotatorSpec, seed: int, top_k: int = 0) -> None:
        self._teacher, self._spec, self._seed, self._top_k = teacher, spec, seed, top_k
        self._forms: Literal["untried", "kept", "refused"] = "untried"

    async def propose(self, picture: Picture, profile: TaskProfile, asking: Asking | None = None) -> list[Draft]:
        """One draft a slot, duplicates and unparsable texts ended; in one-shot mode with answers."""
        drafts: list[Draft] = []
        asking = asking or Asking(self._spec.questions_per_image)
        for first in range(0, asking.questions, LARGEST_N):
            slots = range(first, min(first + LARGEST_N, asking.questions))
            drafts += await self._ask(picture, profile, slots, asking.example)
        return _without_duplicates(drafts, asking.asked)

    async def answer(self, draft: Draft, picture: Picture, profile: TaskProfile) -> Draft:
        """The draft with the teacher's greedy answer, unless it has ended or has one; refusals end it."""
        if draft.verdict is not None:
            return draft
        if draft.answer is None:
            draft = await self._answer_greedily(draft, picture, profile)
        if draft.verdict is None and profile.is_refusal(draft.answer or ""):
            return draft.ended(Verdict.REFUSED, f"The teacher declined to answer: {_shown(draft.answer)}.")
        return draft

    async def _ask(self, picture: Picture, profile: TaskProfile, slots: range, example: str) -> list[Draft]:
        # Greedy texts are all the same (vLLM refuses n > 1 then), so one is asked for and the rest are its duplicates.
        n = len(slots) if self._spec.temperature > 0 else 1
        try:
            response = await self._ask_in_form(
                self._request(picture, profile, slots, n, example), picture, profile, example
            )
        except RequestRefused as refusal:
            return [Draft(slot).ended(Verdict.REFUSED, refusal.detail) for slot in slots]
        texts = [choice.message.content or "" for choice in response.choices]
        texts += texts[:1] * (len(slots) - n)
        prompt_tokens, completion_tokens = tokens_of(response)
        cost = (prompt_tokens, completion_tokens // max(1, len(texts)))
        drafts = [replace(self._parse(slot, texts, slot - slots.start, profile), answer_cost=cost) for slot in slots]
        return [drafts[0].spent(response), *drafts[1:]]

    def _request(self, picture: Picture, profile: TaskProfile, slots: range, n: int, example: str) -> ChatRequest:
        """What asks for questions in plain words."""
        one_shot = self._spec.mode == "one_shot"
        return image_question(
            self._teacher.client.model,
            picture.url,
            profile.ask_and_answer_prompt(example=example) if one_shot else profile.ask_prompt(example=example),
            n=n,
            max_tokens=profile.max_question_tokens + (profile.max_answer_tokens if one_shot else 0),
            temperature=self._spec.temperature,
            top_p=self._spec.top_p,
            seed=derive_seed(self._seed, picture.sha256, profile.name, "ask", slots.start),
        )

    async def _ask_in_form(
        self, plain: ChatRequest, picture: Picture, profile: TaskProfile, example: str
    ) -> ChatResponse:
        """Held to the profile's schema where the endpoint can do that, else in plain words."""
        form = profile.response_format(pair=self._spec.mode == "one_shot")
        if form is None or self._spec.structured == "off" or self._forms == "refused":
            return (await self._teacher.chat(plain, picture.rank)).response
        try:
            response = (
                await self._teacher.chat(self._in_form(plain, form, picture, profile, example), picture.rank)
            ).response
        except RequestRefused as refusal:
            response = (await self._teacher.chat(plain, picture.rank)).response
            if self._forms == "untried":
                # So it was the form that was refused, not the image: later calls need not try.
                self._forms = "refused"
                log.warning("The teacher is not held to JSON schemas: %s", refusal.detail)
            return response
        self._forms = "kept"
        return response

    def _in_form(
        self, plain: ChatRequest, form: dict[str, Any], picture: Picture, profile: TaskProfile, example: str
    ) -> ChatRequest:
        one_shot = self._spec.mode == "one_shot"
        prompt = profile.ask_and_answer_prompt if one_shot else profile.ask_prompt
        text = prompt(as_json=True, example=example)
        asked = image_question(plain.model, picture.url, text)
        longest = (plain.max_tokens or 0) + JSON_TOKENS
        values = {"messages": asked.messages, "response_format": form, "max_tokens": longest}
        return plain.model_copy(update=values)

    def _parse(self, slot: int, texts: list[str], position: int, profile: TaskProfile) -> Draft:
        if position >= len(texts):
            return Draft(slot).ended(Verdict.UNPARSABLE, f"The teacher sent {len(texts)} texts, fewer than asked for.")
        text = texts[position]
        if self._spec.mode == "one_shot":
            pair = profile.parse_pair(text)
            if pair is None:
                return Draft(slot).ended(Verdict.UNPARSABLE, f"No question with an answer in {_shown(text)}.")
            return Draft(slot, question=pair[0], answer=profile.clean_answer(pair[1]))
        question = profile.parse_question(text)
        if question is None:
            return Draft(slot).ended(Verdict.UNPARSABLE, f"No question in {_shown(text)}.")
        return Draft(slot, question=question)

    async def _answer_greedily(self, draft: Draft, picture: Picture, profile: TaskProfile) -> Draft:
        request = image_question(
            self._teacher.client.model,
            picture.url,
            profile.answer_prompt(draft.question or ""),
            max_tokens=profile.max_answer_tokens,
            temperature=0.0,
            logprobs=True,
            top_logprobs=self._top_k or None,
        )
        try:
            response = (await self._teacher.chat(request, picture.rank)).response
        except RequestRefused as refusal:
            return draft.ended(Verdict.REFUSED, refusal.detail)
        draft = draft.spent(response)
        text = first_text(response)
        answer = profile.clean_answer(text)
        if not answer:
            return draft.ended(Verdict.UNPARSABLE, f"The teacher's answer is empty: {_shown(text)}.")
        logprob = mean_logprob(response.choices[0])
        top = top_alternatives(response.choices[0]) if self._top_k else None
        return replace(draft, answer=answer, logprob=logprob, top=top, answer_cost=tokens_of(response))


def tokens_of(response: ChatResponse) -> tuple[int, int]:
    """Prompt and completion tokens as the server counted them; 0 where it did not."""
    usage = response.usage
    return (usage.prompt_tokens, usage.completion_tokens) if usage is not None else (0, 0)


def first_text(response: ChatResponse) -> str:
    return (response.choices[0].message.content or "") if response.choices else ""


def mean_logprob(choice: Choice) -> float | None:
    """Mean token log-probability in nats, None if the server sent none."""
    tokens = choice.logprobs.content if choice.logprobs is not None else None
    if not tokens:
        return None
    mean = sum(token.logprob for token in tokens) / len(tokens)
    return mean if math.isfinite(mean) else None


def top_alternatives(choice: Choice) -> tuple[tuple[Alternative, ...], ...] | None:
    """The likeliest tokens at each place of the answer, best first; None if the server sent none."""
    tokens = choice.logprobs.content if choice.logprobs is not None else None
    if not tokens or any(not token.top_logprobs for token in tokens):
        return None
    return tuple(_ranked(token.top_logprobs) for token in tokens)


def _ranked(found: Sequence[TopLogprob]) -> tuple[Alternative, ...]:
    known = [Alternative(entry.token, round(entry.logprob, 6)) for entry in found if math.isfinite(entry.logprob)]
    return tuple(sorted(known, key=lambda entry: -entry.logprob))


def _without_duplicates(drafts: list[Draft], asked: Mapping[str, str]) -> list[Draft]:
    """``asked``: questions that are duplicates already, with where they were asked."""
    seen = dict(asked)
    kept = []
    for draft in drafts:
        if draft.verdict is None:
            key = normalise_question(draft.question or "")
            if key in seen:
                draft = draft.ended(Verdict.DUPLICATE, f"The same question as {seen[key]}.")
            else:
                seen[key] = f"slot {draft.slot}"
        kept.append(draft)
    return kept


def _shown(text: str | None) -> str:
    return repr((text or "")[:SHOWN])
