"""What a failed call says: that the server turned it away, has an outage, lacks a route, or objects to the input."""

from __future__ import annotations

import math
import re
from enum import StrEnum

from shared.contracts import (
    AttentionRequest,
    AttentionResponse,
    ChatRequest,
    ChatResponse,
    ScoreRequest,
    ScoreResponse,
)
from shared.errors import Unavailable, UpstreamError
from shared.vqa.reading.replies import Ending, read_choice

TOO_MANY = 429
SIZE_OR_TYPE = (413, 415)
REFUSING = (400, *SIZE_OR_TYPE, 422)
NOT_OFFERED = (403, 404, 405, 501)
NAMES_INPUT = re.compile(
    r"token|context|too (?:long|large|big|many|small)|image|picture|pixel|base64|prompt|\binput\b|schema"
    r"|response_format|question|answer|filter|policy|safety|moderation",
    re.IGNORECASE,
)
MARKUP = re.compile(r"\s*<(?:!doctype|html|head|body|\?xml)", re.IGNORECASE)


class Failure(StrEnum):
    """``turned away``: only too much at once. ``outage``: nothing about the input, however plain the words.

    ``refusal``: the words speak of the input, which counts only if the server answers others. ``not offered``: the
    server has no such route.
    """

    TURNED_AWAY = "turned away"
    OUTAGE = "outage"
    REFUSAL = "refusal"
    NOT_OFFERED = "not offered"


def read_failure(error: Unavailable | UpstreamError, *, optional: bool = False) -> Failure:
    """``optional``: a server may lack this route."""
    status = error.upstream_status
    if status == TOO_MANY:
        return Failure.TURNED_AWAY
    if status in SIZE_OR_TYPE or (status in REFUSING and _names_input(words_of(error))):
        return Failure.REFUSAL
    if optional and status in NOT_OFFERED:
        return Failure.NOT_OFFERED
    return Failure.OUTAGE


def words_of(error: Unavailable | UpstreamError) -> str:
    """The server's own words, without the address that was asked."""
    return error.detail.partition(f"answered {error.upstream_status}: ")[2] or error.detail


def same_words(error: Unavailable | UpstreamError) -> str:
    """The status and the words without their numbers: equal for the same refusal of different inputs."""
    return f"{error.upstream_status} {re.sub(r'[0-9]+', '#', words_of(error))}"


def _names_input(words: str) -> bool:
    return NAMES_INPUT.search(words) is not None and MARKUP.match(words) is None


def check_chat(request: ChatRequest, response: ChatResponse, server: str) -> None:
    """Raises UpstreamError for a reply that only a broken server sends."""
    if not response.choices:
        raise _broken(server, "an empty list of choices")
    for choice in response.choices:
        reply = read_choice(choice)
        if reply.ending is Ending.BROKEN_OFF:
            raise _broken(server, f"a text that it broke off itself (finish_reason {reply.detail!r})")
        tokens = (choice.logprobs.content if choice.logprobs is not None else None) or []
        if request.logprobs and not all(math.isfinite(token.logprob) for token in tokens):
            raise _broken(server, "log-probabilities that are not finite numbers")


def check_scores(request: ScoreRequest, response: ScoreResponse, server: str) -> None:
    """Raises UpstreamError unless there is a finite score for each answer."""
    if [len(scores) for scores in response.scores] != [len(item.answers) for item in request.items]:
        raise _broken(server, "another number of scores than it was asked for")
    if not all(math.isfinite(score.mean_logprob) for scores in response.scores for score in scores):
        raise _broken(server, "scores that are not finite numbers")


def check_maps(request: AttentionRequest, response: AttentionResponse, server: str) -> None:
    """Raises UpstreamError unless there is a map of finite values for each item."""
    if len(response.maps) != len(request.items):
        raise _broken(server, f"{len(response.maps)} attention maps for {len(request.items)} answers")
    if not all(math.isfinite(value) for found in response.maps for row in found.values for value in row):
        raise _broken(server, "attention maps with values that are not finite numbers")


def _broken(server: str, what: str) -> UpstreamError:
    return UpstreamError(f"{server} answered with {what}.", upstream_status=200)
