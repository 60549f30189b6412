"""Calls to the teacher and the student that outlast outages: an unreachable server delays a job but never fails it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from services.parity.endpoints.dialect import Dialect, Rule
from services.parity.endpoints.limiter import Limiter
from shared.backoff import Backoff
from shared.client import ChatClient, ChatReply
from shared.concurrency import run_all
from shared.contracts import (
    AttentionRequest,
    AttentionResponse,
    ChatRequest,
    ChatResponse,
    ScoreRequest,
    ScoreResponse,
    Usage,
)
from shared.errors import MPAError, Unavailable, UpstreamError

log = logging.getLogger(__name__)
T = TypeVar("T")

REFUSING_STATUSES = (400, 413, 415, 422)
LARGEST_SEED = 2**31
TOO_MANY = 429


class RequestRefused(MPAError):
    """The server is up but does not serve this one request; ``detail`` says why."""

    status, slug, title = 502, "request-refused", "A model server refused a request"


@dataclass(frozen=True)
class RetryPolicy:
    """Pauses in seconds. ``server_errors``: how often a request that gets 5xx (except 502-504) or nonsense is tried.

    ``overtaken``: how often a request may fail while others succeed in between.
    """

    first: float = 0.5
    longest: float = 10.0
    longest_asked: float = 60.0
    server_errors: int = 4
    overtaken: int = 12


class Endpoint:
    """One model server. While it is unreachable, ``waiting_for`` says so; ``changed`` is set whenever that changes."""

    def __init__(
        self,
        name: str,
        client: ChatClient,
        calls: Limiter,
        changed: asyncio.Event,
        patience: RetryPolicy | None = None,
        reasoning_tokens: int = 0,
    ) -> None:
        """``reasoning_tokens``: what the model may think in, on top of the limit of the text that is asked for."""
        self.name, self.client, self.reasoning_tokens = name, client, reasoning_tokens
        self.waiting_for: str | None = None
        self._calls, self._changed, self._patience = calls, changed, patience or RetryPolicy()
        self._dialect = Dialect()
        self._successes = 0
        self._failures_since_success = 0

    async def chat(self, request: ChatRequest, rank: float = 0.0) -> ChatReply:
        """Ask until there is an answer. Of many waiting calls, those with a lower ``rank`` go first.

        If a reply has fewer choices than requested (some servers support only ``n=1``), further calls add the others.
        Raises RequestRefused, and UpstreamError for errors that waiting cannot resolve (401, 404 …).
        """
        reply = await self._ask(request, rank)
        got = len(reply.response.choices)
        if not 0 < got < request.n:
            return reply
        singles = [_single(request, choice) for choice in range(got, request.n)]
        return _joined([reply, *await run_all(*(self._ask(single, rank) for single in singles))])

    async def attention(self, request: AttentionRequest, rank: float = 0.0) -> AttentionResponse:
        """The attention of one of our model services. Raises RequestRefused, and UpstreamError if the probe is off."""
        return await self._until_answered(partial(self.client.attention, request), rank)

    async def score(self, request: ScoreRequest, rank: float = 0.0) -> ScoreResponse:
        """Scores of answers by our student service. Raises RequestRefused, and UpstreamError if it has no scores."""
        return await self._until_answered(partial(self.client.score, request), rank)

    async def _ask(self, request: ChatRequest, rank: float) -> ChatReply:
        """Ask in the endpoint's dialect, and learn more of it from refusals."""
        tried: list[Rule] = []
        while True:
            said = self._dialect.say(request)
            for rule in tried:
                said = rule.change(said)
            try:
                reply = await self._until_answered(partial(self.client.chat, said), rank)
            except RequestRefused as refusal:
                remedy = self._dialect.rule_for(said, refusal.detail)
                if remedy is None or remedy in tried:
                    raise
                tried.append(remedy)
                continue
            for rule in tried:
                self._learn(rule)
            return reply

    async def _until_answered(self, call: Callable[[], Awaitable[T]], rank: float) -> T:
        patience, tries, broken, overtaken = self._patience, 0, 0, 0
        while True:
            seen = self._successes
            try:
                reply = await self._once(call, rank)
            except Unavailable as error:
                self._failed(error)
                # A request that breaks the server each time must end, but not one that is merely turned away.
                overtaken += self._successes > seen and error.upstream_status != TOO_MANY
                if overtaken >= patience.overtaken:
                    raise RequestRefused(
                        f"The {self.name} answered other requests but never this one: {error.detail}"
                    ) from error
                pause = self._pause(tries, error.retry_after)
            except UpstreamError as error:
                broken += 1
                self._judge(error, broken)
                pause = self._pause(tries, error.retry_after)
            else:
                self._succeeded()
                return reply
            tries += 1
            await asyncio.sleep(pause)

    async def _once(self, call: Callable[[], Awaitable[T]], rank: float) -> T:
        async with self._calls.slot(rank) as slot:
            try:
                reply = await call()
            except Unavailable as error:
                asked = error.retry_after
                slot.overloaded(None if asked is None else min(asked, self._patience.longest_asked))
                raise
            slot.answered()
            return reply

    def _learn(self, rule: Rule) -> None:
        if rule not in self._dialect.known:
            self._dialect.learn(rule)
            log.warning(
                "The %s at %s does not support everything; going on without %s.",
                self.name,
                self.client.base_url,
                rule.lost,
            )

    def _judge(self, error: UpstreamError, broken: int) -> None:
        """Raises unless another attempt may help."""
        status = error.upstream_status or 500
        if status in REFUSING_STATUSES:
            self._succeeded()
            raise RequestRefused(f"The {self.name} refused the request: {error.detail}") from error
        if 300 <= status < 500:
            raise error
        if broken >= self._patience.server_errors:
            raise RequestRefused(f"The {self.name} failed on this request {broken} times: {error.detail}") from error

    def _pause(self, tries: int, asked: float | None) -> float:
        if asked is not None:
            return min(asked, self._patience.longest_asked)
        return Backoff(self._patience.first, self._patience.longest, jitter=0.5).delay(tries + 1)

    def _failed(self, error: Unavailable) -> None:
        self._failures_since_success += 1
        if self._failures_since_success == 2:
            log.warning("Waiting for the %s at %s: %s", self.name, self.client.base_url, error.detail)
            self._say(f"{self.name} at {self.client.base_url}: {error.detail}")

    def _succeeded(self) -> None:
        self._successes += 1
        self._failures_since_success = 0
        if self.waiting_for is not None:
            log.info("The %s at %s answers again.", self.name, self.client.base_url)
            self._say(None)

    def _say(self, waiting_for: str | None) -> None:
        self.waiting_for = waiting_for
        self._changed.set()


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
