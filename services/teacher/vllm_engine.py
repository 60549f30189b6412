"""Passes chat requests to the supervised vLLM server byte for byte, and its answers back.

Only a text that could hold a special token is sent in another form (shared/escapes.py).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpx
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from services.teacher.loopback import Loopback
from services.teacher.vllm_command import teacher_environment, vllm_command
from shared.contracts import ChatRequest, TextPart
from shared.errors import MPAError, Unavailable, UpstreamError
from shared.escapes import Escapes, write_messages
from shared.settings import TeacherSettings
from shared.sse import MEDIA_TYPE, write_event
from shared.vllm.environment import runs_on_gpu
from shared.vllm.metrics import vllm_metrics
from shared.vllm.server import ModelServer, ServerTimes

CHAT = "/v1/chat/completions"
RETRY_AFTER = 2.0
RETRY_AFTER_START = 5.0
ESCAPES = Escapes()

log = logging.getLogger(__name__)


class VllmTeacher:
    """The default engine: vLLM's own server on loopback behind one pooled client."""

    def __init__(self, server: ModelServer, timeout: float) -> None:
        self.server = server
        self._timeout = timeout
        self._whole = Loopback(timeout)
        # Streams hold their connections for a long time, so a limited pool would only make them wait.
        unbounded = httpx.Limits(max_connections=None, max_keepalive_connections=8)
        self._http = httpx.AsyncClient(timeout=httpx.Timeout(timeout, connect=5.0), limits=unbounded, trust_env=False)

    @classmethod
    def from_settings(cls, settings: TeacherSettings) -> VllmTeacher:
        on_gpu = runs_on_gpu(settings.teacher_vllm_python)
        timeout = settings.teacher_request_timeout.total_seconds()
        server = ModelServer(
            lambda port: vllm_command(settings, port, on_gpu=on_gpu),
            teacher_environment(settings, os.environ, on_gpu=on_gpu),
            settings.teacher_name,
            # A server that is busy with long requests is not hung: a probe gets half the time of a request.
            ServerTimes(ready=settings.teacher_ready_timeout.total_seconds(), probe=timeout / 2),
        )
        return cls(server, timeout)

    @property
    def ready(self) -> bool:
        return self.server.ready

    @property
    def reason(self) -> str:
        return self.server.reason

    @property
    def details(self) -> dict[str, Any]:
        return {"engine": "vllm", "model_server": self.server.base_url, **self.server.details}

    async def start(self) -> None:
        await self.server.start()

    async def stop(self) -> None:
        await self.server.stop()
        self._whole.close()
        await self._http.aclose()

    async def answer(self, request: ChatRequest, body: bytes) -> Response:
        if not self.server.ready:
            raise Unavailable(self.server.reason, retry_after=RETRY_AFTER_START)
        if self.server.reads_escapes:
            body = _with_escapes(request, body)
        try:
            if request.stream:
                begun = await self._stream(body)
                if isinstance(begun, Response):
                    return begun
                status, content = begun
            else:
                port = urlsplit(self.server.base_url).port or 80
                status, content = await self._whole.post(port, CHAT, body)
        except httpx.HTTPError as error:
            self._failed(error)
        if status >= 500:
            self.server.saw_failure()
            raise UpstreamError(f"vLLM answered {status}: {_message(content)}", upstream_status=status)
        self.server.saw_answer()
        if status >= 400:
            content = json.dumps(_openai_shape(content)).encode()
        return Response(content, status, media_type="application/json")

    async def _stream(self, body: bytes) -> Response | tuple[int, bytes]:
        """The stream, or status and content if the server does not begin one."""
        url, headers = self.server.base_url + CHAT, {"Content-Type": "application/json"}
        response = await self._http.send(
            self._http.build_request("POST", url, content=body, headers=headers), stream=True
        )
        if response.status_code == 200:
            self.server.saw_answer()
            return _EventStream(self._events(response), response)
        try:
            return response.status_code, await response.aread()
        finally:
            await response.aclose()

    async def metrics(self) -> bytes:
        return await vllm_metrics(self.server, self._http)

    async def _events(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """The stream as it comes. If it breaks off, the status has been sent already, so an error event says so."""
        try:
            async for chunk in response.aiter_raw():
                yield chunk
        except httpx.HTTPError as error:
            self.server.saw_failure()
            log.warning("The model server broke off a stream: %s", type(error).__name__)
            message = "The model server broke off in the middle of this answer: ask again."
            failure = {"error": {"message": message, "type": "overloaded_error", "param": None, "code": "unavailable"}}
            yield write_event(json.dumps(failure)).encode()

    def _failed(self, error: httpx.HTTPError) -> NoReturn:
        self.server.saw_failure()
        raise _as_unavailable(error, self._timeout) from error


class _EventStream(StreamingResponse):
    """Server-sent events from the model server. However the stream ends, the connection to the server is closed."""

    def __init__(self, events: AsyncIterator[bytes], upstream: httpx.Response) -> None:
        super().__init__(events, media_type=MEDIA_TYPE)
        self._upstream = upstream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._upstream.aclose()


def _with_escapes(request: ChatRequest, body: bytes) -> bytes:
    """``body`` with the texts of its messages as vLLM's tokenizer has to get them; most need no change."""
    contents = [message.content for message in request.messages]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    texts = [content for content in contents if isinstance(content, str)]
    texts += [part.text for part in parts if isinstance(part, TextPart)]
    if not ESCAPES.changes(texts):
        return body
    whole = json.loads(body)
    whole["messages"] = write_messages(whole["messages"], ESCAPES.write)
    return json.dumps(whole).encode()


def _as_unavailable(error: httpx.HTTPError, timeout: float) -> MPAError:
    if isinstance(error, httpx.TimeoutException):
        words = f"The model server did not answer within {timeout:.0f} s (MPA_TEACHER_REQUEST_TIMEOUT)."
        return Unavailable(words, retry_after=RETRY_AFTER)
    words = f"The model server broke off this request ({type(error).__name__}); it is restarted if it died: ask again."
    return Unavailable(words, retry_after=RETRY_AFTER)


def _openai_shape(content: bytes) -> dict[str, Any]:
    """vLLM's refusal in OpenAI's shape. The message is vLLM's, whatever shape it comes in."""
    message, param = _message(content), None
    with contextlib.suppress(ValueError, LookupError, TypeError):
        param = json.loads(content)["error"].get("param")
    too_long = "maximum context length" in message
    code = "context_length_exceeded" if too_long else None
    param = "messages" if too_long else param if isinstance(param, str) else None
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def _message(content: bytes) -> str:
    """The message of an error body, whatever its shape."""
    try:
        body = json.loads(content)
    except ValueError:
        return content.decode(errors="replace")[:500]
    if isinstance(body, dict):
        error = body.get("error")
        body = error.get("message", error) if isinstance(error, dict) else body.get("message", body.get("detail", body))
    return str(body)[:500]
