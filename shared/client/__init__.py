"""Typed clients of the services."""

from shared.client.base import (
    CHECKPOINT_HEADER,
    ChatClient,
    ChatReply,
    HttpClient,
    ParityClient,
    StudentClient,
    certificates,
    image_question,
)

__all__ = [
    "CHECKPOINT_HEADER",
    "ChatClient",
    "ChatReply",
    "HttpClient",
    "ParityClient",
    "StudentClient",
    "certificates",
    "image_question",
]
