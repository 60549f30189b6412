"""Typed httpx clients of the services; every call has a timeout and raises typed errors."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from shared.compatibility import read_shown
from shared.contracts import (
    ActivateRequest,
    AttentionRequest,
    AttentionResponse,
    CanaryDecision,
    CanaryReport,
    CanaryRequest,
    ChatMessage,
    ChatRequest,
    ChatResponse,
    CheckpointList,
    Health,
    ImagePart,
    ImageURL,
    JobList,
    JobReport,
    JobSpec,
    JobStatus,
    ModelList,
    PairPage,
    RolloutView,
    ScoreRequest,
    ScoreResponse,
    SwapResult,
    TextPart,
    UploadReceipt,
)
from shared.errors import Unavailable, UpstreamError
from shared.telemetry.tracing import span, trace_headers

CHECKPOINT_HEADER = "X-MPA-Checkpoint"
OPTIONAL_FIELDS = ("logprobs", "n", "stream")
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class ChatReply:
    """A chat completion and the checkpoint version that produced it (None where the server does not say)."""

    response: ChatResponse
    checkpoint: str | None


class HttpClient:
    """One pooled connection to one service. ``timeout`` in seconds."""

    def __init__(
        self, base_url: str, *, api_key: str | None = None, timeout: float = 60.0, max_connections: int = 64
    ) -> None:
        self.base_url = base_url.rstrip("/").removesuffix("/v1")
        self._http = httpx.AsyncClient(
            base_url=self.base_url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(timeout, connect=min(timeout, 10.0)),
            verify=certificates(),
            limits=httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def health(self) -> Health:
        """``/readyz`` whatever its status."""
        try:
            response = await self._http.get("/readyz")
            return read_shown(Health, response.content)
        except (httpx.HTTPError, ValidationError) as error:
            raise Unavailable(f"{self.base_url} does not answer: {_words(error)}.") from error

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = await self._request(method, path, options)
        except httpx.TimeoutException as error:
            raise Unavailable(f"{method} {self.base_url}{path} did not answer in time: {_words(error)}.") from error
        except httpx.HTTPError as error:
            raise Unavailable(f"{self.base_url} cannot be reached: {_words(error)}.") from error
        if response.status_code >= 400:
            raise upstream_error(response)
        return response

    async def _request(self, method: str, path: str, options: dict[str, Any]) -> httpx.Response:
        with span(f"{method} {path.partition('?')[0]}", {"server.address": self.base_url}, "client") as traced:
            headers = {**(options.pop("headers", None) or {}), **trace_headers()}
            response = await self._http.request(method, path, headers=headers, **options)
            if traced is not None:
                traced.set_attribute("http.response.status_code", response.status_code)
            return response

    async def _call(self, model: type[M], method: str, path: str, **options: Any) -> M:
        response = await self._send(method, path, **options)
        return self._parse(model, response)

    def _parse(self, model: type[M], response: httpx.Response) -> M:
        try:
            return read_shown(model, response.content)
        except ValidationError as error:
            problem = error.errors()[0]
            raise UpstreamError(
                f"{response.request.url} sent no valid {model.__name__} ({problem['loc']}: {problem['msg']}).",
                upstream_status=response.status_code,
            ) from error


class ChatClient(HttpClient):
    """Any OpenAI-compatible chat endpoint: our teacher and student, a bare vLLM server, a hosted model."""

    def __init__(
        self, base_url: str, *, model: str, api_key: str | None = None, timeout: float = 60.0, max_connections: int = 64
    ) -> None:
        super().__init__(base_url, api_key=api_key, timeout=timeout, max_connections=max_connections)
        self.model = model

    async def chat(self, request: ChatRequest) -> ChatReply:
        # Sampling is always spelt out, because servers have defaults of their own. What asks for nothing is left out:
        # some servers refuse fields that they do not know, whatever the value.
        fields = ChatRequest.model_fields
        idle = {name for name in OPTIONAL_FIELDS if getattr(request, name) == fields[name].default}
        body = request.model_dump_json(exclude_none=True, exclude=idle)
        response = await self._send(
            "POST", "/v1/chat/completions", content=body, headers={"Content-Type": "application/json"}
        )
        reply = self._parse(ChatResponse, response)
        return ChatReply(reply, response.headers.get(CHECKPOINT_HEADER))

    async def attention(self, request: AttentionRequest) -> AttentionResponse:
        """Of our own model services, where the probe is on."""
        body = request.model_copy(update={"model": self._versioned}).model_dump(mode="json")
        return await self._call(AttentionResponse, "POST", "/v1/attention", json=body)

    @property
    def _versioned(self) -> str:
        """The model's name if it names a version; else empty, which every release of a service takes for its own."""
        return self.model if "@" in self.model else ""

    async def score(self, request: ScoreRequest) -> ScoreResponse:
        """Of our own student service."""
        body = request.model_copy(update={"model": self._versioned}).model_dump(mode="json")
        return await self._call(ScoreResponse, "POST", "/v1/score", json=body)

    async def models(self) -> ModelList:
        return await self._call(ModelList, "GET", "/v1/models")

    async def ready(self) -> bool:
        """Our services answer ``/readyz``; of foreign endpoints ``/v1/models`` is asked."""
        try:
            response = await self._http.get("/readyz")
            if response.status_code in (200, 503):
                return response.status_code == 200
            await self.models()
        except (httpx.HTTPError, Unavailable, UpstreamError):
            return False
        return True


class StudentClient(ChatClient):
    """The student service."""

    async def checkpoints(self) -> CheckpointList:
        return await self._call(CheckpointList, "GET", "/v1/checkpoints")

    async def activate(self, version: str, by: str, timeout: float = 300.0) -> SwapResult:
        # A little less than we wait, so that the answer says whether the swap happened.
        body = ActivateRequest(version=version, by=by, deadline_seconds=0.95 * timeout).model_dump()
        return await self._call(SwapResult, "PUT", "/v1/checkpoints/active", json=body, timeout=timeout)

    async def rollback(self, timeout: float = 300.0) -> SwapResult:
        return await self._call(SwapResult, "POST", "/v1/checkpoints/rollback", timeout=timeout)

    async def rollout(self) -> RolloutView:
        return await self._call(RolloutView, "GET", "/v1/rollout")

    async def start_canary(self, request: CanaryRequest, timeout: float = 300.0) -> CanaryReport:
        body = request.model_dump(mode="json")
        return await self._call(CanaryReport, "PUT", "/v1/rollout/canary", json=body, timeout=timeout)

    async def promote_canary(self, by: str, reason: str = "by call", timeout: float = 300.0) -> SwapResult:
        body = CanaryDecision(by=by, reason=reason).model_dump()
        return await self._call(SwapResult, "POST", "/v1/rollout/canary/promote", json=body, timeout=timeout)

    async def abort_canary(self, by: str, reason: str = "by call", timeout: float = 300.0) -> CanaryReport:
        body = CanaryDecision(by=by, reason=reason).model_dump()
        return await self._call(CanaryReport, "POST", "/v1/rollout/canary/abort", json=body, timeout=timeout)


class ParityClient(HttpClient):
    """The job API."""

    async def submit(self, spec: JobSpec | dict[str, Any], idempotency_key: str | None = None) -> JobStatus:
        body = spec.model_dump(mode="json") if isinstance(spec, JobSpec) else spec
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return await self._call(JobStatus, "POST", "/v1/jobs", json=body, headers=headers)

    async def job(self, job_id: str, wait: float | None = None, version: int | None = None) -> JobStatus:
        """The status; with ``wait`` the call returns when the version is no longer ``version``, or after ``wait``
        seconds.
        """
        params = {} if wait is None else {"wait": wait}
        headers = {} if version is None else {"If-None-Match": f'"{version}"'}
        timeout = (wait or 0) + 30
        response = await self._send("GET", f"/v1/jobs/{job_id}", params=params, headers=headers, timeout=timeout)
        if response.status_code == 304:
            return await self.job(job_id)
        return self._parse(JobStatus, response)

    async def jobs(self, cursor: str | None = None, limit: int = 50) -> JobList:
        return await self._call(JobList, "GET", "/v1/jobs", params=_given(cursor=cursor, limit=limit))

    async def pairs(
        self,
        job_id: str,
        *,
        verdict: str | None = None,
        task: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> PairPage:
        params = _given(verdict=verdict, task=task, cursor=cursor, limit=limit)
        return await self._call(PairPage, "GET", f"/v1/jobs/{job_id}/pairs", params=params)

    async def cancel(self, job_id: str) -> JobStatus:
        return await self._call(JobStatus, "POST", f"/v1/jobs/{job_id}/cancel")

    async def retry(self, job_id: str) -> JobStatus:
        return await self._call(JobStatus, "POST", f"/v1/jobs/{job_id}/retry")

    async def report(self, job_id: str) -> JobReport:
        return await self._call(JobReport, "GET", f"/v1/jobs/{job_id}/report")

    async def upload(self, path: Path, timeout: float = 600.0) -> UploadReceipt:
        """Upload a zip, or one image."""
        with path.open("rb") as file:
            files = {"files": (path.name, file)}
            return await self._call(UploadReceipt, "POST", "/v1/uploads", files=files, timeout=timeout)

    async def events(self, job_id: str) -> AsyncIterator[JobStatus]:
        """Statuses as they change, until the job is final."""
        async with self._http.stream("GET", f"/v1/jobs/{job_id}/events", timeout=None) as response:
            if response.status_code >= 400:
                await response.aread()
                raise upstream_error(response)
            async for line in response.aiter_lines():
                if line.startswith("data:"):
                    yield JobStatus.model_validate(json.loads(line[5:])["status"], extra="ignore")


@cache
def certificates() -> ssl.SSLContext:
    """Whom this machine trusts, read once a process: it takes some 20 ms, and workers make clients for every shard."""
    return httpx.create_ssl_context()


def image_question(model: str, image_url: str, text: str, **params: Any) -> ChatRequest:
    """A user turn with the image first, then the text: the order every part of MPA uses."""
    content: list[ImagePart | TextPart] = [
        ImagePart(type="image_url", image_url=ImageURL(url=image_url)),
        TextPart(type="text", text=text),
    ]
    return ChatRequest(model=model, messages=[ChatMessage(role="user", content=content)], **params)


def upstream_error(response: httpx.Response) -> MPAUpstream:
    """The typed error of a failed response: 429 and 503 are Unavailable (worth a retry), all others UpstreamError."""
    detail = f"{response.request.method} {response.request.url} answered {response.status_code}: {_detail_of(response)}"
    retry_after = _retry_after(response.headers.get("Retry-After"))
    if response.status_code in (429, 502, 503, 504):
        return Unavailable(detail, retry_after=retry_after, upstream_status=response.status_code)
    return UpstreamError(detail, upstream_status=response.status_code, retry_after=retry_after)


MPAUpstream = Unavailable | UpstreamError


def _detail_of(response: httpx.Response) -> str:
    try:
        body = response.json()
    except ValueError:
        return response.text[:300]
    if isinstance(body, dict):
        error = body.get("error")
        found = body.get("detail") or (error.get("message") if isinstance(error, dict) else error)
        return str(found or body)[:1000]
    return str(body)[:300]


def _retry_after(value: str | None) -> float | None:
    """Seconds from a Retry-After header (RFC 9110: a number of seconds, or an HTTP date)."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


def _given(**params: Any) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
