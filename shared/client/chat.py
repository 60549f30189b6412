"""Any OpenAI-compatible chat endpoint: our teacher and student, a bare vLLM server, a hosted model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from shared.client.base import HttpClient
from shared.contracts import (
    AttentionRequest,
    AttentionResponse,
    ChatMessage,
    ChatRequest,
    ChatResponse,
    ImagePart,
    ImageURL,
    ModelList,
    ScoreRequest,
    ScoreResponse,
    TextPart,
)
from shared.errors import Unavailable, UpstreamError

CHECKPOINT_HEADER = "X-MPA-Checkpoint"
OPTIONAL_FIELDS = ("logprobs", "n", "stream")


@dataclass(frozen=True)
class ChatReply:
    """A chat completion and the checkpoint version that produced it (None if the server does not report it)."""

    response: ChatResponse
    checkpoint: str | None


class ChatClient(HttpClient):
    """Any OpenAI-compatible chat endpoint: our teacher and student, a bare vLLM server, a hosted model."""

    def __init__(
        self, base_url: str, *, model: str, api_key: str | None = None, timeout: float = 60.0, max_connections: int = 64
    ) -> None:
        super().__init__(base_url, api_key=api_key, timeout=timeout, max_connections=max_connections)
        self.model = model

    async def chat(self, request: ChatRequest) -> ChatReply:
        # Sampling parameters are always sent, because servers have different defaults. Optional fields with their
        # default value are left out: some servers refuse fields that they do not know, whatever the value.
        fields = ChatRequest.model_fields
        idle = {name for name in OPTIONAL_FIELDS if getattr(request, name) == fields[name].default}
        body = request.model_dump_json(exclude_none=True, exclude=idle)
        response = await self._send(
            "POST", "/v1/chat/completions", content=body, headers={"Content-Type": "application/json"}
        )
        reply = self._parse(ChatResponse, response)
        return ChatReply(reply, response.headers.get(CHECKPOINT_HEADER))

    async def attention(self, request: AttentionRequest) -> AttentionResponse:
        """The model's attention map; only our own model services have it, with the probe switched on."""
        body = request.model_copy(update={"model": self._versioned}).model_dump(mode="json")
        return await self._call(AttentionResponse, "POST", "/v1/attention", json=body)

    @property
    def _versioned(self) -> str:
        """The model's name if it names a version; else empty, which every release of a service accepts."""
        return self.model if "@" in self.model else ""

    async def score(self, request: ScoreRequest) -> ScoreResponse:
        """Log-probabilities of given answers; only our own student service has this route."""
        body = request.model_copy(update={"model": self._versioned}).model_dump(mode="json")
        return await self._call(ScoreResponse, "POST", "/v1/score", json=body)

    async def models(self) -> ModelList:
        return await self._call(ModelList, "GET", "/v1/models")

    async def ready(self) -> bool:
        """Our services answer ``/readyz``; other endpoints are asked for ``/v1/models``."""
        try:
            response = await self._http.get("/readyz")
            if response.status_code in (200, 503):
                return response.status_code == 200
            await self.models()
        except (httpx.HTTPError, Unavailable, UpstreamError):
            return False
        return True


def image_question(model: str, image_url: str, text: str, **params: Any) -> ChatRequest:
    """A user turn with the image first, then the text: the order every part of MPA uses."""
    content: list[ImagePart | TextPart] = [
        ImagePart(type="image_url", image_url=ImageURL(url=image_url)),
        TextPart(type="text", text=text),
    ]
    return ChatRequest(model=model, messages=[ChatMessage(role="user", content=content)], **params)
