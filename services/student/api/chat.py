"""Between OpenAI's chat format and the engine: what a request asks for, and what the answer looks like."""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from services.student.engines.base import Answered, Question
from services.student.engines.transformers.work import StreamPiece
from shared.contracts import (
    AnswerMessage,
    ChatMessage,
    ChatRequest,
    ChatResponse,
    Choice,
    ChoiceLogprobs,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from shared.errors import InvalidInput, MPAError, NotFound
from shared.images.chat import ChatImages
from shared.settings import StudentSettings
from shared.vlm.generation import Generated, Token
from shared.vlm.sampling import Sampling

log = logging.getLogger(__name__)
DEFAULT_MAX_TOKENS = 64


async def read_question(messages: Sequence[ChatMessage], images: ChatImages) -> Question:
    """Decode the images of a conversation, off the event loop. Raises InvalidInput: which image is wrong, and why."""
    return Question(*await images.read_aside(messages))


def wanted_version(model: str) -> str | None:
    """``student@job-x`` asks for the answer of one version, ``student`` for that of whatever serves."""
    return model.partition("@")[2] or None


def read_samplings(request: ChatRequest, settings: StudentSettings) -> list[Sampling]:
    """One sampling a choice; seeds count up, so that choices differ and a repeated request gives the same ones."""
    if request.model.partition("@")[0] != settings.student_name:
        raise NotFound(f"The model {request.model!r} does not exist here: use {settings.student_name!r}.")
    wanted = request.max_completion_tokens or request.max_tokens
    if wanted is not None and wanted > settings.student_max_tokens:
        raise InvalidInput(
            f"max_tokens is {wanted}; at most {settings.student_max_tokens} are generated (MPA_STUDENT_MAX_TOKENS)."
        )
    if request.response_format is not None and request.response_format.get("type") != "text":
        raise InvalidInput("response_format: the student answers in plain text only: drop the field.")
    if request.top_logprobs and not request.logprobs:
        raise InvalidInput("top_logprobs needs logprobs: true.")
    stop = (request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ())
    return [
        Sampling(
            max_tokens=wanted or min(DEFAULT_MAX_TOKENS, settings.student_max_tokens),
            temperature=request.temperature,
            top_p=request.top_p,
            seed=None if request.seed is None else request.seed + choice,
            stop=stop,
            top_logprobs=request.top_logprobs or 0,
        )
        for choice in range(request.n)
    ]


def build_response(request: ChatRequest, answered: Answered) -> ChatResponse:
    """The whole answer in OpenAI's format; ``system_fingerprint`` is the checkpoint's version."""
    return ChatResponse(
        id=f"chatcmpl-{secrets.token_hex(12)}",
        created=int(time.time()),
        model=request.model,
        system_fingerprint=answered.version,
        choices=[
            Choice(
                index=index,
                message=AnswerMessage(content=answer.text),
                logprobs=ChoiceLogprobs(content=[_token(t) for t in answer.tokens]) if request.logprobs else None,
                finish_reason=answer.finish_reason,
            )
            for index, answer in enumerate(answered.answers)
        ],
        usage=_usage(answered.answers),
    )


async def stream_events(
    request: ChatRequest, first: StreamPiece, rest: AsyncGenerator[StreamPiece]
) -> AsyncIterator[str]:
    """Server-sent events. An error after the first piece becomes the last event, because the status has been sent."""

    async def pieces() -> AsyncIterator[StreamPiece]:
        yield first
        async for piece in rest:
            yield piece

    async with aclosing(rest):
        try:
            async for chunk in stream_chunks(request, pieces()):
                yield f"data: {json.dumps(chunk)}\n\n"
        except Exception as error:
            log.exception("A stream broke off")
            known = error if isinstance(error, MPAError) else MPAError("The answer broke off: see the service's log.")
            yield f"data: {json.dumps(as_openai_error(known))}\n\n"
            return
    yield "data: [DONE]\n\n"


async def stream_chunks(request: ChatRequest, pieces: AsyncIterator[StreamPiece]) -> AsyncIterator[dict[str, Any]]:
    """``chat.completion.chunk`` objects as the answers grow; choices interleave."""
    head: dict[str, Any] = {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": request.model,
    }
    begun: set[int] = set()
    answers: list[Generated] = []
    async for item in pieces:
        head["system_fingerprint"] = item.version
        if item.choice not in begun:
            begun.add(item.choice)
            yield {**head, "choices": [_delta(item.choice, {"role": "assistant", "content": ""})]}
        if item.piece is not None:
            tokens = [_token(token).model_dump() for token in item.piece.tokens]
            logprobs = {"content": tokens} if request.logprobs else None
            yield {**head, "choices": [{**_delta(item.choice, {"content": item.piece.text}), "logprobs": logprobs}]}
        if item.answer is not None:
            answers.append(item.answer)
            yield {**head, "choices": [_delta(item.choice, {}, item.answer.finish_reason)]}
    if request.stream_options and request.stream_options.include_usage:
        yield {**head, "choices": [], "usage": _usage(answers).model_dump()}


def _delta(index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": finish}


def _token(token: Token) -> TokenLogprob:
    top = [TopLogprob(token=a.token, logprob=a.logprob, bytes=list(a.token.encode())) for a in token.top]
    return TokenLogprob(token=token.text, logprob=token.logprob, bytes=list(token.text.encode()), top_logprobs=top)


def _usage(answers: Sequence[Generated]) -> Usage:
    prompt = answers[0].prompt_tokens if answers else 0
    completion = sum(a.completion_tokens for a in answers)
    return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


def as_openai_error(error: MPAError) -> dict[str, Any]:
    """An error inside a stream that has begun."""
    return {"error": {"message": error.detail, "type": "server_error", "param": None, "code": error.slug}}
