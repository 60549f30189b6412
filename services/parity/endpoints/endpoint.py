"""One model server as the steps of mining see it: asked in its own dialect, with as many choices as were wanted."""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import replace
from functools import cache, partial
from io import BytesIO

from PIL import Image

from services.parity.endpoints.dialect import Dialect, Rule
from services.parity.endpoints.evidence import Health, RetryPolicy
from services.parity.endpoints.failures import check_chat, check_maps, check_scores
from services.parity.endpoints.limiter import Limiter
from services.parity.endpoints.patience import PatientCaller, RequestRefused, Route
from shared.client import ChatClient, ChatReply, image_question
from shared.concurrency import run_all
from shared.contracts import (
    AttentionItem,
    AttentionRequest,
    AttentionResponse,
    ChatRequest,
    ChatResponse,
    ScoreItem,
    ScoreRequest,
    ScoreResponse,
    Usage,
)
from shared.images import to_data_url

log = logging.getLogger(__name__)

LARGEST_SEED = 2**31


class Endpoint:
    """One model server. While it is unreachable, ``waiting_for`` says so; ``changed`` is set whenever that changes."""

    def __init__(
        self,
        name: str,
        client: ChatClient,
        calls: Limiter,
        changed: asyncio.Event,
        policy: RetryPolicy | None = None,
        reasoning_tokens: int = 0,
        health: Health | None = None,
    ) -> None:
        """``reasoning_tokens``: what the model may think in, on top of the limit of the text that is asked for.

        ``health``: what all calls of this process to the server tell; None: only those of this endpoint.
        """
        self.name, self.client, self.reasoning_tokens = name, client, reasoning_tokens
        self.health = health or Health()
        self._dialect = Dialect()
        question = image_question(client.model, white_square(), "What colour is it?", max_tokens=8, temperature=0.0)
        alive = self._chat_route(question)
        self._caller = PatientCaller(name, client.base_url, calls, changed, policy or RetryPolicy(), alive)

    @property
    def waiting_for(self) -> str | None:
        return self._caller.waiting_for

    async def chat(
        self, request: ChatRequest, rank: float = 0.0, gives_way_to: re.Pattern[str] | None = None
    ) -> ChatReply:
        """Ask until there is an answer. Of many waiting calls, those with a lower ``rank`` go first.

        If a reply has fewer choices than requested (some servers support only ``n=1``), further calls add the others.
        ``gives_way_to``: a refusal in such words is raised at once, because the caller then asks in another way.
        Raises RequestRefused.
        """
        reply = await self._ask(request, rank, gives_way_to)
        got = len(reply.response.choices)
        if not 0 < got < request.n:
            return reply
        singles = [_single(request, choice) for choice in range(got, request.n)]
        return _joined([reply, *await run_all(*(self._ask(single, rank, gives_way_to) for single in singles))])

    async def attention(self, request: AttentionRequest, rank: float = 0.0) -> AttentionResponse:
        """The attention of one of our model services. Raises RequestRefused, also if the probe is off."""

        async def call() -> AttentionResponse:
            response = await self.client.attention(request)
            check_maps(request, response, self.client.base_url)
            return response

        item = AttentionItem(image=white_square(), question="What colour is it?", answer="white")
        harmless = partial(self.client.attention, AttentionRequest(items=[item], grid=request.grid))
        return await self._caller.until_answered(Route(call, self.health.attention, harmless, optional=True), rank)

    async def score(self, request: ScoreRequest, rank: float = 0.0) -> ScoreResponse:
        """Scores of answers by our student service. Raises RequestRefused, also if it has no scores."""

        async def call() -> ScoreResponse:
            response = await self.client.score(request)
            check_scores(request, response, self.client.base_url)
            return response

        item = ScoreItem(image=white_square(), question="What colour is it?", answers=["white"])
        harmless = partial(self.client.score, ScoreRequest(items=[item]))
        return await self._caller.until_answered(Route(call, self.health.score, harmless, optional=True), rank)

    async def _ask(self, request: ChatRequest, rank: float, gives_way_to: re.Pattern[str] | None) -> ChatReply:
        """Ask in the endpoint's dialect, and learn more of it from refusals."""
        tried: list[Rule] = []
        while True:
            said = self._dialect.say(request)
            for rule in tried:
                said = rule.change(said)

            def remedy_for(words: str, said: ChatRequest = said) -> Rule | None:
                found = self._dialect.rule_for(said, words)
                return None if found in tried else found

            def ends_at_once(words: str) -> bool:
                return remedy_for(words) is not None or bool(gives_way_to and gives_way_to.search(words))

            try:
                reply = await self._caller.until_answered(self._chat_route(said), rank, ends_at_once)
            except RequestRefused as refusal:
                remedy = remedy_for(refusal.detail)
                if remedy is None:
                    raise
                tried.append(remedy)
                continue
            for rule in tried:
                self._learn(rule)
            return reply

    def _chat_route(self, request: ChatRequest) -> Route[ChatReply]:
        async def call() -> ChatReply:
            reply = await self.client.chat(request)
            check_chat(request, reply.response, self.client.base_url)
            return reply

        async def ask_harmlessly() -> ChatReply:
            question = image_question(
                self.client.model, white_square(), "What colour is it?", max_tokens=8, temperature=0.0
            )
            return await self.client.chat(self._dialect.say(question))

        return Route(call, self.health.chat, ask_harmlessly)

    def _learn(self, rule: Rule) -> None:
        if rule not in self._dialect.known:
            self._dialect.learn(rule)
            log.warning(
                "The %s at %s does not support everything; going on without %s.",
                self.name,
                self.client.base_url,
                rule.lost,
            )


@cache
def white_square() -> str:
    """A picture that any server can answer questions about, as a data URL."""
    buffer = BytesIO()
    Image.new("RGB", (64, 64), "white").save(buffer, "PNG")
    return to_data_url(buffer.getvalue())


def _single(request: ChatRequest, choice: int) -> ChatRequest:
    """A request for one choice, with a seed of its own so that its sample differs."""
    seed = None if request.seed is None else (request.seed + choice) % LARGEST_SEED
    return request.model_copy(update={"n": 1, "seed": seed})


def _joined(replies: list[ChatReply]) -> ChatReply:
    """One reply with the choices of all replies, and the sum of their tokens."""
    responses = [reply.response for reply in replies]
    choices = [choice for response in responses for choice in response.choices]
    renumbered = [choice.model_copy(update={"index": index}) for index, choice in enumerate(choices)]
    values = {"choices": renumbered, "usage": _total(responses)}
    return replace(replies[0], response=responses[0].model_copy(update=values))


def _total(responses: list[ChatResponse]) -> Usage:
    counts = [response.usage or Usage() for response in responses]
    prompt, completion = sum(c.prompt_tokens for c in counts), sum(c.completion_tokens for c in counts)
    return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)
