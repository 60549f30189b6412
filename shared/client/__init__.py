"""Typed clients of the services."""

from shared.client.base import HttpClient, certificates
from shared.client.chat import CHECKPOINT_HEADER, ChatClient, ChatReply, image_question
from shared.client.parity import ParityClient
from shared.client.student import StudentClient

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
