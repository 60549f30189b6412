"""`POST /v1/score`: from the request to the engine, and back."""

from __future__ import annotations

from services.student.api.chat import read_conversation
from services.student.engines.base import Conversation, Engine
from shared.contracts import (
    AnswerScore,
    ChatMessage,
    ImagePart,
    ImageURL,
    ScoreItem,
    ScoreRequest,
    ScoreResponse,
    TextPart,
)
from shared.errors import InvalidInput, Unavailable
from shared.images.chat import ChatImages
from shared.vlm.scoring import Score


async def score_items(engine: Engine, request: ScoreRequest, images: ChatImages) -> ScoreResponse:
    """Scores of all items by one checkpoint. Raises InvalidInput naming the item that is wrong."""
    if engine.score_trouble:
        raise Unavailable(
            f"Scores are off, because the check at the start found them wrong: {engine.score_trouble}. "
            "Chat still works. For scores, serve the student with the other MPA_STUDENT_ENGINE."
        )
    conversations = [await _conversation(n, item, images) for n, item in enumerate(request.items)]
    scored = await engine.score([(c, item.answers) for c, item in zip(conversations, request.items, strict=True)])
    return ScoreResponse(checkpoint=scored.version, scores=[[_score(s) for s in row] for row in scored.scores])


async def _conversation(number: int, item: ScoreItem, images: ChatImages) -> Conversation:
    content: list[ImagePart | TextPart] = [
        ImagePart(type="image_url", image_url=ImageURL(url=item.image)),
        TextPart(type="text", text=item.question),
    ]
    try:
        return await read_conversation([ChatMessage(role="user", content=content)], images)
    except InvalidInput as error:
        raise InvalidInput(f"items[{number}]: {error.detail}") from error


def _score(score: Score) -> AnswerScore:
    return AnswerScore(
        answer=score.answer,
        logprob=score.total,
        mean_logprob=score.mean,
        tokens=list(score.tokens),
        token_logprobs=list(score.logprobs),
    )
