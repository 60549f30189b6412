"""The parts of OpenAI's chat completions that we support."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class ImageURL(BaseModel):
    model_config = ConfigDict(extra="ignore")
    url: str
    detail: str | None = None


class ImagePart(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Literal["image_url"]
    image_url: ImageURL


class TextPart(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Literal["text"]
    text: str


ContentPart = Annotated[ImagePart | TextPart, Field(discriminator="type")]


class ChatMessage(BaseModel):
    model_config = ConfigDict(extra="ignore")
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[ContentPart]


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="ignore")
    include_usage: bool = False


class ChatRequest(BaseModel):
    """The parameters we honour; any other is refused with an OpenAI-shaped error, not ignored."""

    model_config = ConfigDict(extra="forbid")
    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    n: int = Field(1, ge=1, le=16)
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1)
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: dict[str, Any] | None = None
    user: str | None = None


class TopLogprob(BaseModel):
    token: str
    logprob: float
    bytes: list[int] | None = None


class TokenLogprob(TopLogprob):
    top_logprobs: list[TopLogprob] = []


class ChoiceLogprobs(BaseModel):
    content: list[TokenLogprob] | None = None


def _is_none(value: object) -> bool:
    return value is None


class AnswerMessage(BaseModel):
    """An answer. Servers of reasoning models send the reasoning apart, as ``reasoning`` or ``reasoning_content``."""

    role: Literal["assistant"] = "assistant"
    content: str | None = None
    reasoning: str | None = Field(None, exclude_if=_is_none)
    reasoning_content: str | None = Field(None, exclude_if=_is_none)
    refusal: str | None = Field(None, exclude_if=_is_none)

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


class Choice(BaseModel):
    index: int = 0
    message: AnswerMessage
    logprobs: ChoiceLogprobs | None = None
    finish_reason: str | None = None


class Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class ChatResponse(BaseModel):
    """Lenient on purpose (extra fields of other servers are ignored): any OpenAI-compatible endpoint may be the
    teacher.
    """

    id: str = ""
    object: str = "chat.completion"
    created: int = 0
    model: str = ""
    system_fingerprint: str | None = None
    choices: list[Choice]
    usage: Usage | None = None


class ModelInfo(BaseModel):
    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "mpa"
    checkpoint: str | None = None
    active: bool | None = Field(None, description="whether requests for this id are answered now")


class ModelList(BaseModel):
    object: str = "list"
    data: list[ModelInfo]
