"""Asks the teacher and reads how each of its texts ended. A text that was cut off gets one try with a raised limit."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.parity.endpoints.endpoint import Endpoint
from services.parity.endpoints.patience import RequestRefused
from services.parity.mining.pairs import Tokens
from shared.contracts import Cause, ChatRequest, ChatResponse, Choice, TokenLogprob, TopLogprob, Verdict
from shared.sets import Alternative
from shared.vqa.reading.replies import Ending, Reply, read_choice

RAISED = (Ending.CUT_OFF, Ending.THINKING)
ABOUT_LIMITS = re.compile(r"tokens?\b|length|context|limit|at most", re.IGNORECASE)
LONGEST_END = 200  # characters of special tokens that may follow an answer
NOTHING = Reply("", Ending.EMPTY)


@dataclass(frozen=True)
class Heard:
    """Choices with how each ended, in order. ``limit``: tokens that were allowed; ``spent``: those of all tries.

    ``version``: the checkpoint that answered, None if the server names none.
    """

    choices: tuple[Choice, ...]
    replies: tuple[Reply, ...]
    limit: int
    spent: Tokens
    version: str | None = None

    @property
    def first(self) -> Reply:
        return self.replies[0] if self.replies else NOTHING


def has_begun(reply: Reply) -> bool:
    """Whether there is an answer, be it whole or cut off."""
    return reply.ending is not Ending.THINKING


def _is_whole(reply: Reply) -> bool:
    return reply.whole


async def hear(
    endpoint: Endpoint,
    request: ChatRequest,
    rank: float,
    *,
    raise_by: int = 1,
    usable: Callable[[Reply], bool] = _is_whole,
    gives_way_to: re.Pattern[str] | None = None,
) -> Heard:
    """Ask, and ask once more with the limit times ``raise_by`` if a text that is not ``usable`` ran out of tokens.

    ``request.max_tokens`` is for the text alone; what the model may think in is added. A refusal in words like
    ``gives_way_to`` is raised at once. Raises RequestRefused.
    """
    limit = (request.max_tokens or 0) + endpoint.reasoning_tokens
    heard = await _once(endpoint, request, rank, limit, gives_way_to)
    short = [reply.ending in RAISED and not usable(reply) for reply in heard.replies]
    if raise_by <= 1 or not any(short):
        return heard
    try:
        again = await _once(endpoint, request, rank, limit * raise_by, ABOUT_LIMITS)
    except RequestRefused:  # the raised limit does not fit into the model's context
        return heard
    # The seed is the same, so a sampled text is the same one, only longer.
    taken = [missing and place < len(again.replies) for place, missing in enumerate(short)]
    return Heard(
        tuple(again.choices[n] if taken[n] else choice for n, choice in enumerate(heard.choices)),
        tuple(again.replies[n] if taken[n] else reply for n, reply in enumerate(heard.replies)),
        again.limit,
        heard.spent + again.spent,
        again.version,
    )


async def _once(
    endpoint: Endpoint, request: ChatRequest, rank: float, limit: int, gives_way_to: re.Pattern[str] | None
) -> Heard:
    answer = await endpoint.chat(request.model_copy(update={"max_tokens": limit}), rank, gives_way_to)
    response: ChatResponse = answer.response
    choices = tuple(response.choices)
    replies = tuple(read_choice(choice) for choice in choices)
    return Heard(choices, replies, limit, Tokens.of(response), answer.checkpoint or response.system_fingerprint)


def unusable(reply: Reply, cut_off: Cause) -> tuple[Verdict, Cause]:
    """The verdict on a pair because of a text of the teacher's that is not whole, and its cause.

    ``cut_off``: the cause if the text was cut off.
    """
    causes = {
        Ending.CUT_OFF: cut_off,
        Ending.THINKING: Cause.TEACHER_THINKING,
        Ending.WITHHELD: Cause.WITHHELD,
        Ending.BROKEN_OFF: Cause.BROKEN_OFF,
    }
    verdict = Verdict.REFUSED if reply.ending is Ending.WITHHELD else Verdict.UNPARSABLE
    return verdict, causes.get(reply.ending, Cause.EMPTY)


def mean_logprob(choice: Choice) -> float | None:
    """Mean token log-probability of the answer in nats, without any reasoning's; None if the server sent none."""
    tokens = _tokens(choice)
    if not tokens:
        return None
    mean = sum(token.logprob for token in tokens) / len(tokens)
    return mean if math.isfinite(mean) else None


def top_alternatives(choice: Choice) -> tuple[tuple[Alternative, ...], ...] | None:
    """The likeliest tokens at each place of the answer, best first; None if the server sent none."""
    tokens = _tokens(choice)
    if not tokens or any(not token.top_logprobs for token in tokens):
        return None
    return tuple(_ranked(token.top_logprobs) for token in tokens)


def _tokens(choice: Choice) -> Sequence[TokenLogprob]:
    """The answer's tokens: the last ones whose text is the answer, where the model reasoned first."""
    tokens = (choice.logprobs.content if choice.logprobs is not None else None) or []
    reply = read_choice(choice)
    if not reply.reasoned:
        return tokens
    wanted, joined = reply.text.strip(), ""
    for start in range(len(tokens) - 1, -1, -1):
        joined = tokens[start].token + joined
        if wanted and joined.lstrip().startswith(wanted):
            return tokens[start:]
        if len(joined) > len(wanted) + LONGEST_END:
            break
    return []


def _ranked(found: Sequence[TopLogprob]) -> tuple[Alternative, ...]:
    known = [Alternative(entry.token, round(entry.logprob, 6)) for entry in found if math.isfinite(entry.logprob)]
    return tuple(sorted(known, key=lambda entry: -entry.logprob))
