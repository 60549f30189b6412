"""Pseudo Annotator: the teacher proposes questions about an image and answers them.

Each (image, task) has ``questions_per_image`` slots. Every slot becomes a question with the teacher's answer, or a
judged pair that says why there is none.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from services.parity.endpoints.endpoint import Endpoint, RequestRefused
from services.parity.images.picture import Picture, derive_seed
from services.parity.mining.pairs import Answered, Draft, Judged, Tokens
from services.parity.mining.question_plan import ImagePlan
from shared.client import image_question
from shared.contracts import AnnotatorSpec, ChatRequest, ChatResponse, Choice, TopLogprob, Verdict
from shared.sets import Alternative
from shared.vqa.answers import normalise_question
from shared.vqa.tasks import TaskProfile

LARGEST_N = 16
SHOWN = 200
JSON_TOKENS = 24  # for keys, quotes and braces around the texts

log = logging.getLogger(__name__)


class Annotator:
    """Asks the teacher of one job. ``seed`` is the job's; ``top_k`` is the number of alternatives to ask per token."""

    def __init__(self, teacher: Endpoint, spec: AnnotatorSpec, seed: int, top_k: int = 0) -> None:
        self._teacher, self._spec, self._seed, self._top_k = teacher, spec, seed, top_k
        self._schemas: Literal["untried", "kept", "refused"] = "untried"

    async def propose(
        self, picture: Picture, profile: TaskProfile, plan: ImagePlan | None = None
    ) -> list[Draft | Judged]:
        """One draft per slot, in one-shot mode with its answer. Duplicates and unparsable texts are judged already."""
        plan = plan or ImagePlan(self._spec.questions_per_image)
        drafts: list[Draft | Judged] = []
        for first in range(0, plan.questions, LARGEST_N):
            slots = range(first, min(first + LARGEST_N, plan.questions))
            drafts += await self._ask(picture, profile, slots, plan.example)
        return _without_duplicates(drafts, plan.asked)

    async def answer(self, draft: Draft, picture: Picture, profile: TaskProfile) -> Answered | Judged:
        """The draft with the teacher's greedy answer, or with its one-shot answer. A refusal is judged."""
        answered = (
            await self._answer_greedily(draft, picture, profile)
            if draft.answer is None
            else Answered(draft.slot, draft.question, draft.answer, spent=draft.spent, answer_cost=draft.answer_cost)
        )
        if isinstance(answered, Answered) and profile.is_refusal(answered.answer):
            return answered.judged(Verdict.REFUSED, f"The teacher declined to answer: {_shown(answered.answer)}.")
        return answered

    async def _ask(self, picture: Picture, profile: TaskProfile, slots: range, example: str) -> list[Draft | Judged]:
        # Greedy texts are all equal (vLLM refuses n > 1 for them), so one is asked for and the rest are duplicates.
        n = len(slots) if self._spec.temperature > 0 else 1
        request = self._request(picture, profile, slots, n, example)
        try:
            response = await self._ask_with_schema(request, picture, profile, example)
        except RequestRefused as refusal:
            return [Judged(slot, Verdict.REFUSED, refusal.detail) for slot in slots]
        texts = [choice.message.content or "" for choice in response.choices]
        texts += texts[:1] * (len(slots) - n)
        spent = Tokens.of(response)
        cost = Tokens(spent.prompt, spent.completion // max(1, len(texts)))
        drafts = [self._parse(slot, texts, slot - slots.start, cost, profile) for slot in slots]
        return [replace(drafts[0], spent=spent), *drafts[1:]]

    def _request(self, picture: Picture, profile: TaskProfile, slots: range, n: int, example: str) -> ChatRequest:
        """Asks for questions without a schema."""
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

    async def _ask_with_schema(
        self, plain: ChatRequest, picture: Picture, profile: TaskProfile, example: str
    ) -> ChatResponse:
        """Uses the profile's JSON schema if the endpoint supports schemas, otherwise sends ``plain``."""
        schema = profile.response_format(pair=self._spec.mode == "one_shot")
        if schema is None or self._spec.structured == "off" or self._schemas == "refused":
            return (await self._teacher.chat(plain, picture.rank)).response
        request = self._with_schema(plain, schema, picture, profile, example)
        try:
            response = (await self._teacher.chat(request, picture.rank)).response
        except RequestRefused as refusal:
            response = (await self._teacher.chat(plain, picture.rank)).response
            if self._schemas == "untried":
                # The endpoint refused the schema, not the image, so later calls do not try it again.
                self._schemas = "refused"
                log.warning("The teacher is asked without JSON schemas: %s", refusal.detail)
            return response
        self._schemas = "kept"
        return response

    def _with_schema(
        self, plain: ChatRequest, schema: dict[str, Any], picture: Picture, profile: TaskProfile, example: str
    ) -> ChatRequest:
        one_shot = self._spec.mode == "one_shot"
        prompt = profile.ask_and_answer_prompt if one_shot else profile.ask_prompt
        asked = image_question(plain.model, picture.url, prompt(as_json=True, example=example))
        longest = (plain.max_tokens or 0) + JSON_TOKENS
        values = {"messages": asked.messages, "response_format": schema, "max_tokens": longest}
        return plain.model_copy(update=values)

    def _parse(self, slot: int, texts: list[str], position: int, cost: Tokens, profile: TaskProfile) -> Draft | Judged:
        if position >= len(texts):
            return Judged(slot, Verdict.UNPARSABLE, f"The teacher sent {len(texts)} texts, fewer than asked for.")
        text = texts[position]
        if self._spec.mode == "one_shot":
            pair = profile.parse_pair(text)
            if pair is None:
                return Judged(slot, Verdict.UNPARSABLE, f"No question with an answer in {_shown(text)}.")
            return Draft(slot, pair[0], profile.clean_answer(pair[1]), answer_cost=cost)
        question = profile.parse_question(text)
        if question is None:
            return Judged(slot, Verdict.UNPARSABLE, f"No question in {_shown(text)}.")
        return Draft(slot, question, answer_cost=cost)

    async def _answer_greedily(self, draft: Draft, picture: Picture, profile: TaskProfile) -> Answered | Judged:
        request = image_question(
            self._teacher.client.model,
            picture.url,
            profile.answer_prompt(draft.question),
            max_tokens=profile.max_answer_tokens,
            temperature=0.0,
            logprobs=True,
            top_logprobs=self._top_k or None,
        )
        try:
            response = (await self._teacher.chat(request, picture.rank)).response
        except RequestRefused as refusal:
            return draft.judged(Verdict.REFUSED, refusal.detail)
        cost = Tokens.of(response)
        draft = replace(draft, spent=draft.spent + cost)
        text = first_text(response)
        answer = profile.clean_answer(text)
        if not answer:
            return draft.judged(Verdict.UNPARSABLE, f"The teacher's answer is empty: {_shown(text)}.")
        choice = response.choices[0]
        top = top_alternatives(choice) if self._top_k else None
        return Answered(draft.slot, draft.question, answer, mean_logprob(choice), top, draft.spent, cost)


def first_text(response: ChatResponse) -> str:
    """The first choice's text; "" if there is none."""
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


def _without_duplicates(drafts: list[Draft | Judged], asked: Mapping[str, str]) -> list[Draft | Judged]:
    """Judges every draft whose question came before or is in ``asked`` (normalised question: where it was asked)."""
    seen = dict(asked)
    kept: list[Draft | Judged] = []
    for draft in drafts:
        if isinstance(draft, Draft):
            earlier = seen.setdefault(normalise_question(draft.question), f"slot {draft.slot}")
            if earlier != f"slot {draft.slot}":
                draft = draft.judged(Verdict.DUPLICATE, f"The same question as {earlier}.")
        kept.append(draft)
    return kept


def _shown(text: str) -> str:
    return repr(text[:SHOWN])
