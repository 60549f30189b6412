"""What a chat request asks of the student: which version, which images, and how to sample."""

from __future__ import annotations

from collections.abc import Sequence

from services.student.engines.base import Conversation
from shared.contracts import ChatMessage, ChatRequest
from shared.errors import InvalidInput, NotFound
from shared.images.chat import ChatImages
from shared.serving import answers
from shared.settings import StudentSettings
from shared.vlm.sampling import Sampling


async def read_conversation(messages: Sequence[ChatMessage], images: ChatImages) -> Conversation:
    """Decode the images of a conversation off the event loop. Raises InvalidInput naming the wrong image and why."""
    return Conversation(*await images.read_aside(messages))


def wanted_version(model: str) -> str | None:
    """``student@job-x`` asks for version ``job-x``; ``student`` asks for the version that serves."""
    return model.partition("@")[2] or None


def read_samplings(request: ChatRequest, settings: StudentSettings) -> list[Sampling]:
    """One sampling per choice. Raises NotFound for another model's name, InvalidInput for what is not possible."""
    if request.model.partition("@")[0] != settings.student_name:
        raise NotFound(f"The model {request.model!r} does not exist here: use {settings.student_name!r}.")
    wanted = request.max_completion_tokens or request.max_tokens
    if wanted is not None and wanted > settings.student_max_tokens:
        name = "max_tokens" if request.max_completion_tokens is None else "max_completion_tokens"
        raise InvalidInput(
            f"{name} is {wanted}; at most {settings.student_max_tokens} are generated (MPA_STUDENT_MAX_TOKENS).",
            param=name,
        )
    return answers.read_samplings(
        request,
        default_tokens=min(answers.DEFAULT_MAX_TOKENS, settings.student_max_tokens),
        plain_text_only="the student answers in plain text only: drop the field.",
    )
