"""What a model thinks of given answers: log-probabilities and attention maps."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from shared.contracts.base import EXAMPLE_IMAGE, Contract


class ScoreItem(Contract):
    """Answers to score for one image (data URL) and question."""

    image: str = Field(description="data URL of the image")
    question: str = Field(description="question about the image")
    answers: list[str] = Field(min_length=1, max_length=64, description="answers to score")


class ScoreRequest(Contract):
    """``model``: ``student``, or ``student@<version>`` for a version that is served beside; empty: the active one."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "items": [
                        {
                            "image": f"data:image/png;base64,{EXAMPLE_IMAGE}",
                            "question": "How many bars are red?",
                            "answers": ["two"],
                        }
                    ]
                }
            ]
        }
    )

    items: list[ScoreItem] = Field(min_length=1, max_length=256, description="what to score")
    model: str = Field(
        "",
        description="student, or student@<version>: the active version or a canary's candidate; empty: the active one",
    )


class AnswerScore(Contract):
    answer: str = Field(description="the answer that was scored")
    logprob: float = Field(description="sum of token log-probabilities, nats")
    mean_logprob: float = Field(description="mean log-probability of a token, nats")
    tokens: list[str] = Field(description="tokens of the answer, and the one that ends it")
    token_logprobs: list[float] = Field(description="log-probability of each token, nats")


class ScoreResponse(Contract):
    checkpoint: str = Field(description="version that gave the scores")
    scores: list[list[AnswerScore]] = Field(description="[item][answer]")


class AttentionItem(Contract):
    """An image (data URL), a question about it and an answer."""

    image: str = Field(description="data URL of the image")
    question: str = Field(min_length=1, description="question about the image")
    answer: str = Field(min_length=1, description="answer whose attention is wanted")


class AttentionRequest(Contract):
    """``POST /v1/attention``: where the model looks while it gives each answer."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "items": [
                        {
                            "image": f"data:image/png;base64,{EXAMPLE_IMAGE}",
                            "question": "How many bars are red?",
                            "answer": "two",
                        }
                    ]
                }
            ]
        }
    )

    items: list[AttentionItem] = Field(min_length=1, max_length=32, description="images with questions and answers")
    model: str = Field("", description="student@<version> asks the student for that version; empty: the active one")
    grid: int = Field(8, ge=1, le=32, description="rows and columns of the maps")


class AttentionGrid(Contract):
    """``values`` [grid][grid], rows from the top, sum 1; ``image_share``: the image's part of all attention."""

    values: list[list[float]] = Field(description="[grid][grid], rows from the top, sum 1")
    image_share: float = Field(description="the image's part of all attention, 0-1")


class AttentionResponse(Contract):
    """``version``: the checkpoint (student) or model (teacher); ``layers``: whose heads were averaged."""

    version: str = Field(description="the checkpoint (student) or model (teacher)")
    layers: list[int] = Field(description="layers whose heads were averaged")
    maps: list[AttentionGrid] = Field(description="one map an item")
