"""The interface of a teacher engine, whatever runs the model."""

from __future__ import annotations

from typing import Any, Protocol

from starlette.responses import Response

from shared.contracts import ChatRequest


class TeacherEngine(Protocol):
    """Runs the model. ``start`` returns at once. ``reason`` says why the engine is not ``ready``."""

    @property
    def ready(self) -> bool: ...

    @property
    def reason(self) -> str: ...

    @property
    def details(self) -> dict[str, Any]: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def answer(self, request: ChatRequest, body: bytes) -> Response:
        """OpenAI's response to ``request``; ``body`` is the JSON it was parsed from. Cancelling it frees the model."""
        ...

    async def metrics(self) -> bytes:
        """The model server's own metrics in Prometheus' text format; empty if there are none now."""
        ...
