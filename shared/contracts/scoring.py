"""What a model thinks of given answers: log-probabilities and attention maps."""

from __future__ import annotations

from pydantic import Field

from shared.contracts.base import Contract


class ScoreItem(Contract):
    """Answers to score for one image (data URL) and question."""

    image: str
    question: str
    answers: list[str] = Field(min_length=1, max_length=64)


class ScoreRequest(Contract):
    """``model``: ``student``, or ``student@<version>`` for a version that is served beside; empty: the active one."""

    items: list[ScoreItem] = Field(min_length=1, max_length=256)
    model: str = ""


class AnswerScore(Contract):
    answer: str
    logprob: float = Field(description="sum of token log-probabilities, nats")
    mean_logprob: float
    tokens: list[str]
    token_logprobs: list[float]


class ScoreResponse(Contract):
    checkpoint: str
    scores: list[list[AnswerScore]] = Field(description="[item][answer]")


class AttentionItem(Contract):
    """An image (data URL), a question about it and an answer."""

    image: str
    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)


class AttentionRequest(Contract):
    """``POST /v1/attention``: where the model looks while it gives each answer."""

    items: list[AttentionItem] = Field(min_length=1, max_length=32)
    model: str = Field("", description="student@<version> asks the student for that version; empty: the active one")
    grid: int = Field(8, ge=1, le=32, description="rows and columns of the maps")


class AttentionGrid(Contract):
    """``values`` [grid][grid], rows from the top, sum 1; ``image_share``: the image's part of all attention."""

    values: list[list[float]]
    image_share: float


class AttentionResponse(Contract):
    """``version``: the checkpoint (student) or model (teacher); ``layers``: whose heads were averaged."""

    version: str
    layers: list[int]
    maps: list[AttentionGrid]
