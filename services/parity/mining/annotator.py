"""Pseudo Annotator: the teacher proposes questions about an image and answers them.

Each (image, task) has ``questions_per_image`` slots. Every slot becomes a question with the teacher's answer, or a
judged pair that says why there is none.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from services.parity.endpoints.endpoint import Endpoint
from services.parity.endpoints.patience import RequestRefused
from services.parity.images.picture import Picture, derive_seed
from services.parity.mining.hearing import Heard, hear, mean_logprob, top_alternatives, unusable
from services.parity.mining.pairs import Answered, Draft, Judged, Tokens
from services.parity.mining.question_plan import ImagePlan
from shared.client import image_question
from shared.contracts import AnnotatorSpec, Cause, ChatRequest, Verdict
from shared.vqa.answers import normalise_question
from shared.vqa.parsing import LONGEST_ANSWER
from shared.vqa.reading.replies import Reply
from shared.vqa.tasks import TaskProfile

LARGEST_N = 16
SHOWN = 200
ABOUT_FORMATS = re.compile(r"response_format|schema|guided|structured|grammar|json_object", re.IGNORECASE)
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
        return _without_duplicates(_wanted(drafts, plan.slots), plan.asked)

    async def answer(self, draft: Draft, picture: Picture, profile: TaskProfile) -> Answered | Judged:
        """The draft with the teacher's greedy answer, or with its one-shot answer. A refusal is judged."""
        answered = (
            await self._answer_greedily(draft, picture, profile)
            if draft.answer is None
            else Answered(draft.slot, draft.question, draft.answer, spent=draft.spent, answer_cost=draft.answer_cost)
        )
        if isinstance(answered, Answered) and profile.is_refusal(answered.answer):
            reason = f"The teacher declined to answer: {_shown(answered.answer)}."
            return answered.judged(Verdict.REFUSED, reason, cause=Cause.DECLINED)
        return answered

    async def _ask(self, picture: Picture, profile: TaskProfile, slots: range, example: str) -> list[Draft | Judged]:
        # Greedy texts are all equal (vLLM refuses n > 1 for them), so one is asked for and the rest are duplicates.
        n = len(slots) if self._spec.temperature > 0 else 1
        request = self._request(picture, profile, slots, n, example)
        try:
            heard = await self._ask_with_schema(request, picture, profile, example)
        except RequestRefused as refusal:
            return [Judged(slot, Verdict.REFUSED, refusal.detail, cause=Cause.REJECTED) for slot in slots]
        replies = heard.replies + heard.replies[:1] * (len(slots) - n)
        cost = Tokens(heard.spent.prompt, heard.spent.completion // max(1, len(replies)))
        drafts = [self._draft(slot, replies, slot - slots.start, heard.limit, cost, profile) for slot in slots]
        return [replace(drafts[0], spent=heard.spent), *drafts[1:]]

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

    async def _ask_with_schema(self, plain: ChatRequest, picture: Picture, profile: TaskProfile, example: str) -> Heard:
        """Uses the profile's JSON schema if the endpoint supports schemas, otherwise sends ``plain``."""

        async def ask(request: ChatRequest, gives_way_to: re.Pattern[str] | None = None) -> Heard:
            return await hear(
                self._teacher,
                request,
                picture.rank,
                raise_by=profile.raise_limit_by,
                usable=lambda reply: self._read(reply, profile) is not None,
                gives_way_to=gives_way_to,
            )

        schema = profile.response_format(pair=self._spec.mode == "one_shot")
        refused = self._schemas == "refused" or self._teacher.health.breaks_on_schemas
        if schema is None or self._spec.structured == "off" or refused:
            return await ask(plain)
        try:
            heard = await ask(self._with_schema(plain, schema, picture, profile, example), ABOUT_FORMATS)
        except RequestRefused as refusal:
            heard = await ask(plain)
            if self._schemas == "untried":
                # The endpoint refused the schema, not the image, so later calls do not try it again.
                self._schemas = "refused"
                # To find out that a server breaks takes minutes, so the other shards need not do it again.
                self._teacher.health.breaks_on_schemas = not refusal.in_words
                log.warning("The teacher is asked without JSON schemas: %s", refusal.detail)
            return heard
        self._schemas = "kept"
        return heard

    def _with_schema(
        self, plain: ChatRequest, schema: dict[str, Any], picture: Picture, profile: TaskProfile, example: str
    ) -> ChatRequest:
        one_shot = self._spec.mode == "one_shot"
        prompt = profile.ask_and_answer_prompt if one_shot else profile.ask_prompt
        asked = image_question(plain.model, picture.url, prompt(as_json=True, example=example))
        longest = (plain.max_tokens or 0) + JSON_TOKENS
        values = {"messages": asked.messages, "response_format": schema, "max_tokens": longest}
        return plain.model_copy(update=values)

    def _draft(
        self, slot: int, replies: tuple[Reply, ...], position: int, limit: int, cost: Tokens, profile: TaskProfile
    ) -> Draft | Judged:
        if position >= len(replies):
            reason = f"The teacher sent {len(replies)} texts, fewer than asked for."
            return Judged(slot, Verdict.UNPARSABLE, reason, cause=Cause.TOO_FEW_TEXTS)
        reply = replies[position]
        found = self._read(reply, profile)
        if found is not None:
            return Draft(slot, *found, answer_cost=cost)
        what = "question with an answer" if self._spec.mode == "one_shot" else "question"
        if not reply.whole:
            verdict, cause = unusable(reply, Cause.QUESTION_CUT_OFF)
            return Judged(slot, verdict, reply.problem(f"The teacher's {what}", limit), cause=cause)
        return Judged(slot, Verdict.UNPARSABLE, f"No {what} in {_shown(reply.text)}.", cause=Cause.NO_QUESTION)

    def _read(self, reply: Reply, profile: TaskProfile) -> tuple[str, str | None] | None:
        """The question, in one-shot mode with its answer; None if they are not both there and whole."""
        if self._spec.mode == "one_shot":
            return profile.parse_pair(reply.settled)
        question = profile.parse_question(reply.settled)
        return None if question is None else (question, None)

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
            heard = await hear(self._teacher, request, picture.rank, raise_by=profile.raise_limit_by)
        except RequestRefused as refusal:
            return draft.judged(Verdict.REFUSED, refusal.detail, Cause.REJECTED)
        draft = replace(draft, spent=draft.spent + heard.spent)
        if not heard.first.whole:
            verdict, cause = unusable(heard.first, Cause.ANSWER_CUT_OFF)
            return draft.judged(verdict, heard.first.problem("The teacher's answer", heard.limit), cause)
        answer = profile.clean_answer(heard.first.text)
        if not answer:
            reason = f"The teacher's answer is empty: {_shown(heard.first.text)}."
            return draft.judged(Verdict.UNPARSABLE, reason, Cause.EMPTY)
        if len(answer) > LONGEST_ANSWER:
            reason = f"The teacher's text is too long for an answer, {len(answer)} characters: {_shown(answer)}."
            return draft.judged(Verdict.UNPARSABLE, reason, Cause.TOO_LONG)
        choice = heard.choices[0]
        top = top_alternatives(choice) if self._top_k else None
        return Answered(draft.slot, draft.question, answer, mean_logprob(choice), top, draft.spent, heard.spent)


def _wanted(drafts: list[Draft | Judged], slots: frozenset[int] | None) -> list[Draft | Judged]:
    """Those of ``slots``. What the others have cost goes to the first one."""
    if slots is None:
        return drafts
    first, *others = (draft for draft in drafts if draft.slot in slots)
    cost = sum((draft.spent for draft in drafts if draft.slot not in slots), first.spent)
    return [replace(first, spent=cost), *others]


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
