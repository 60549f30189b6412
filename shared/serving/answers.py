"""OpenAI's chat format: from a request to samplings, and from a model's answers to a response or a stream."""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from shared.contracts import (
    AnswerMessage,
    ChatRequest,
    ChatResponse,
    Choice,
    ChoiceLogprobs,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from shared.errors import InvalidInput, MPAError
from shared.serving.work import StreamPiece
from shared.sse import DONE, write_event
from shared.vlm.generation import Generated, Token
from shared.vlm.sampling import Sampling

DEFAULT_MAX_TOKENS = 64

log = logging.getLogger(__name__)


def read_samplings(
    request: ChatRequest, *, default_tokens: int = DEFAULT_MAX_TOKENS, plain_text_only: str
) -> list[Sampling]:
    """One sampling per choice. Seeds count up, so that choices differ and a repeated request gives the same ones.

    ``plain_text_only`` is the refusal of another ``response_format``. Raises InvalidInput.
    """
    if request.response_format is not None and request.response_format.get("type") != "text":
        raise InvalidInput(f"response_format: {plain_text_only}", param="response_format")
    if request.top_logprobs and not request.logprobs:
        raise InvalidInput("top_logprobs needs logprobs: true.", param="top_logprobs")
    stop = (request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ())
    return [
        Sampling(
            max_tokens=request.max_completion_tokens or request.max_tokens or default_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            seed=None if request.seed is None else _wrap(request.seed + choice),
            stop=stop,
            top_logprobs=request.top_logprobs or 0,
        )
        for choice in range(request.n)
    ]


def _wrap(seed: int) -> int:
    """``seed`` in 64 bits, which is what vLLM takes."""
    return (seed + 2**63) % 2**64 - 2**63


def build_response(request: ChatRequest, answers: Sequence[Generated], version: str = "") -> ChatResponse:
    """All choices in one response; ``system_fingerprint`` is the checkpoint's ``version``, if it has one."""
    return ChatResponse(
        id=_new_id(),
        created=int(time.time()),
        model=request.model,
        system_fingerprint=version or None,
        choices=[
            Choice(
                index=index,
                message=AnswerMessage(content=answer.text),
                logprobs=ChoiceLogprobs(content=[_token(t) for t in answer.tokens]) if request.logprobs else None,
                finish_reason=answer.finish_reason,
            )
            for index, answer in enumerate(answers)
        ],
        usage=_usage(answers),
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
                yield write_event(json.dumps(chunk))
        except Exception as error:
            log.exception("A stream broke off")
            known = error if isinstance(error, MPAError) else MPAError("The answer broke off: see the service's log.")
            yield write_event(json.dumps(_broken_off(known)))
            return
    yield write_event(DONE)


async def stream_chunks(request: ChatRequest, pieces: AsyncIterator[StreamPiece]) -> AsyncIterator[dict[str, Any]]:
    """``chat.completion.chunk`` objects as the answers grow; choices interleave."""
    head: dict[str, Any] = {
        "id": _new_id(),
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": request.model,
    }
    begun: set[int] = set()
    answers: list[Generated] = []
    async for item in pieces:
        if item.version:
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


def _new_id() -> str:
    return f"chatcmpl-{secrets.token_hex(12)}"


def _delta(index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": finish}


def _token(token: Token) -> TokenLogprob:
    top = [TopLogprob(token=a.token, logprob=a.logprob, bytes=list(a.token.encode())) for a in token.top]
    return TokenLogprob(token=token.text, logprob=token.logprob, bytes=list(token.text.encode()), top_logprobs=top)


def _usage(answers: Sequence[Generated]) -> Usage:
    prompt = answers[0].prompt_tokens if answers else 0
    completion = sum(answer.completion_tokens for answer in answers)
    return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


def _broken_off(error: MPAError) -> dict[str, Any]:
    return {"error": {"message": error.detail, "type": "server_error", "param": None, "code": error.slug}}
