"""The parts of OpenAI's chat completions that we support."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from shared.contracts.base import Finite, all_finite


class ImageURL(Finite):
    model_config = ConfigDict(extra="ignore")
    url: str = Field(description="data URL of the image, or a web address where the operator allows them")
    detail: str | None = Field(None, description="accepted, not used")


class ImagePart(Finite):
    model_config = ConfigDict(extra="forbid")
    type: Literal["image_url"] = Field(description="always image_url")
    image_url: ImageURL = Field(description="where the image is")


class TextPart(Finite):
    model_config = ConfigDict(extra="forbid")
    type: Literal["text"] = Field(description="always text")
    text: str = Field(description="the text")


ContentPart = Annotated[ImagePart | TextPart, Field(discriminator="type")]


class ChatMessage(Finite):
    model_config = ConfigDict(extra="ignore")
    role: Literal["system", "developer", "user", "assistant"] = Field(description="who says it; developer means system")
    content: str | list[ContentPart] = Field(description="a text, or a list of texts and images")


class StreamOptions(Finite):
    model_config = ConfigDict(extra="ignore")
    include_usage: bool = Field(False, description="send the number of tokens in a last event")


class ChatRequest(Finite):
    """The parameters we honour; any other is refused with an OpenAI-shaped error, not ignored."""

    model_config = ConfigDict(extra="forbid")
    model: str = Field(description="name of the model, or student@<version>")
    messages: list[ChatMessage] = Field(min_length=1, description="the conversation")
    max_tokens: int | None = Field(None, ge=1, description="longest answer, in tokens")
    max_completion_tokens: int | None = Field(
        None, ge=1, description="another name of max_tokens, which it takes precedence over"
    )
    temperature: float = Field(1.0, ge=0, le=2, description="sampling temperature; 0: greedy")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus sampling: share of probability to keep")
    n: int = Field(1, ge=1, le=16, description="answers to the question")
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1, description="makes sampling repeatable")
    stop: str | list[str] | None = Field(None, description="texts that end an answer")
    stream: bool = Field(False, description="send the answer piece by piece, as server-sent events")
    stream_options: StreamOptions | None = Field(None, description="what a stream holds")
    logprobs: bool = Field(False, description="report the log-probability of each token")
    top_logprobs: int | None = Field(
        None, ge=0, le=20, description="alternatives reported for each token; needs logprobs"
    )
    response_format: Annotated[dict[str, Any], AfterValidator(all_finite)] | None = Field(
        None, description="form of the answer; the teacher on vLLM knows JSON schemas"
    )
    user: str | None = Field(None, description="accepted, not used")


LEAST_LOGPROB = -9999.0
"""What OpenAI and vLLM write for the logarithm of a probability of 0."""


def _at_least(value: Any) -> Any:
    return LEAST_LOGPROB if value == -math.inf else value


class TopLogprob(Finite):
    token: str = Field(description="text of the token")
    logprob: Annotated[float, BeforeValidator(_at_least)] = Field(description="its log-probability, nats")
    bytes: list[int] | None = Field(None, description="its text in UTF-8")


class TokenLogprob(TopLogprob):
    top_logprobs: list[TopLogprob] = Field([], description="the likeliest alternatives")


class ChoiceLogprobs(Finite):
    content: list[TokenLogprob] | None = Field(None, description="one entry a token")


def _is_none(value: object) -> bool:
    return value is None


class AnswerMessage(Finite):
    """An answer. Servers of reasoning models send the reasoning apart, as ``reasoning`` or ``reasoning_content``."""

    role: Literal["assistant"] = Field("assistant", description="always assistant")
    content: str | None = Field(None, description="text of the answer")
    reasoning: str | None = Field(
        None, exclude_if=_is_none, description="what the model thought, where a server sends it apart"
    )
    reasoning_content: str | None = Field(
        None, exclude_if=_is_none, description="the same under the name that other servers use"
    )
    refusal: str | None = Field(
        None, exclude_if=_is_none, description="the model's refusal, where a server sends it apart"
    )

    @model_validator(mode="before")
    @classmethod
    def _join_parts(cls, data: Any) -> Any:
        """Some servers send lists of parts: ``[{"type": "thinking", …}, {"type": "text", "text": …}]``."""
        if not isinstance(data, dict):
            return data
        content = data.get("content")
        parts = content if isinstance(content, list) else []
        thinking = _joined([part for part in parts if _kind(part) in ("thinking", "reasoning")])
        text = _joined([part for part in parts if _kind(part) not in ("thinking", "reasoning")])
        read = {**data, "content": text if isinstance(content, list) else content}
        for name in ("reasoning", "reasoning_content", "refusal"):
            value = read.get(name)
            read[name] = value if isinstance(value, str) else _joined(value) or None
        return {**read, "reasoning": read["reasoning"] or thinking or None}


def _kind(part: object) -> object:
    return part.get("type") if isinstance(part, dict) else None


def _joined(value: object) -> str:
    """The texts inside a value of any shape."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_joined(part) for part in value)
    if isinstance(value, dict):
        return _joined([value.get(key) for key in ("text", "thinking", "content", "summary")])
    return ""


class Choice(Finite):
    index: int = Field(0, description="number of the answer, from 0")
    message: AnswerMessage = Field(description="the answer")
    logprobs: ChoiceLogprobs | None = Field(None, description="log-probabilities, if they were asked for")
    finish_reason: str | None = Field(None, description="how the answer ended: stop or length")


class Usage(Finite):
    prompt_tokens: int = Field(0, description="tokens of the prompt")
    completion_tokens: int = Field(0, description="tokens of all answers")
    total_tokens: int = Field(0, description="their sum")


class ChatResponse(Finite):
    """Lenient on purpose (extra fields of other servers are ignored): any OpenAI-compatible endpoint may be the
    teacher.
    """

    id: str = Field("", description="id of the answer")
    object: str = Field("chat.completion", description="always chat.completion")
    created: int = Field(0, description="Unix time in seconds")
    model: str = Field("", description="model that was asked for")
    system_fingerprint: str | None = Field(None, description="version of the checkpoint that answered")
    choices: list[Choice] = Field(description="the answers")
    usage: Usage | None = Field(None, description="number of tokens")


class ModelInfo(Finite):
    id: str = Field(description="name to send as model")
    object: str = Field("model", description="always model")
    created: int = Field(0, description="Unix time in seconds; 0: not known")
    owned_by: str = Field("mpa", description="always mpa")
    checkpoint: str | None = Field(None, description="version behind the name")
    active: bool | None = Field(None, description="whether requests for this id are answered now")


class ModelList(Finite):
    object: str = Field("list", description="always list")
    data: list[ModelInfo] = Field(description="the models")


class ErrorBody(Finite):
    message: str = Field(description="what is wrong with which input, and what to do about it")
    type: str = Field(description="the kind of error, such as invalid_request_error")
    param: str | None = Field(None, description="the field that is wrong, if it is a single one")
    code: str | None = Field(None, description="a stable name of the error")


class OpenAIError(Finite):
    """An error in the shape that OpenAI's clients read."""

    error: ErrorBody = Field(description="the error")
