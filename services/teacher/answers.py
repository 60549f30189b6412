"""Between OpenAI's chat format and shared.vlm, for the transformers engine."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Sequence
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
from shared.errors import InvalidInput
from shared.vlm.generation import Generated, Token
from shared.vlm.sampling import Sampling

DEFAULT_MAX_TOKENS = 64


def read_samplings(request: ChatRequest) -> list[Sampling]:
    """One sampling a choice; seeds count up, so that choices differ. Raises InvalidInput for what only vLLM can do."""
    if request.response_format is not None and request.response_format.get("type") != "text":
        raise InvalidInput(
            "response_format: the transformers engine cannot hold answers to a format: drop the field, or run the "
            "teacher with MPA_TEACHER_ENGINE=vllm."
        )
    if request.top_logprobs and not request.logprobs:
        raise InvalidInput("top_logprobs needs logprobs: true.")
    stop = (request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ())
    return [
        Sampling(
            max_tokens=request.max_completion_tokens or request.max_tokens or DEFAULT_MAX_TOKENS,
            temperature=request.temperature,
            top_p=request.top_p,
            seed=None if request.seed is None else request.seed + choice,
            stop=stop,
            top_logprobs=request.top_logprobs or 0,
        )
        for choice in range(request.n)
    ]


def build_response(request: ChatRequest, answers: Sequence[Generated]) -> ChatResponse:
    """All choices in OpenAI's format."""
    return ChatResponse(
        id=f"chatcmpl-{secrets.token_hex(12)}",
        created=int(time.time()),
        model=request.model,
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


def stream_events(request: ChatRequest, answers: Sequence[Generated]) -> Iterator[str]:
    """Server-sent events, one chunk a choice: the engine batches whole answers, so there is nothing to send earlier."""
    response = build_response(request, answers)
    head: dict[str, Any] = response.model_dump(include={"id", "created", "model"})
    head["object"] = "chat.completion.chunk"
    for choice in response.choices:
        delta = {"role": "assistant", "content": choice.message.content}
        logprobs = choice.logprobs.model_dump() if choice.logprobs else None
        whole = {"index": choice.index, "delta": delta, "logprobs": logprobs, "finish_reason": choice.finish_reason}
        yield _event({**head, "choices": [whole]})
    if request.stream_options and request.stream_options.include_usage:
        yield _event({**head, "choices": [], "usage": _usage(answers).model_dump()})
    yield "data: [DONE]\n\n"


def _event(chunk: dict[str, Any]) -> str:
    return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"


def _token(token: Token) -> TokenLogprob:
    top = [TopLogprob(token=a.token, logprob=a.logprob, bytes=list(a.token.encode())) for a in token.top]
    return TokenLogprob(token=token.text, logprob=token.logprob, bytes=list(token.text.encode()), top_logprobs=top)


def _usage(answers: Sequence[Generated]) -> Usage:
    prompt = answers[0].prompt_tokens if answers else 0
    completion = sum(answer.completion_tokens for answer in answers)
    return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)
