"""Typed errors as responses: problem+json, or OpenAI's shape on the chat routes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from shared.contracts import Problem
from shared.errors import InvalidInput, MPAError, NotFound, Unavailable

log = logging.getLogger(__name__)

OPENAI_PATHS = ("/v1/chat/", "/v1/models")
OUTAGE_RETRY_AFTER = 2.0
_OPENAI_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error", 503: "overloaded_error"}


def problem_response(error: MPAError) -> JSONResponse:
    """RFC 9457 problem details."""
    problem = Problem(type=f"urn:mpa:problem:{error.slug}", title=error.title, status=error.status, detail=error.detail)
    return JSONResponse(
        problem.model_dump(), error.status, headers=_retry_header(error), media_type="application/problem+json"
    )


def openai_response(error: MPAError) -> JSONResponse:
    """The error shape that OpenAI clients parse."""
    kind = _OPENAI_TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    status = 400 if error.status == 422 else error.status
    body = {"error": {"message": error.detail, "type": kind, "param": error.param, "code": error.slug}}
    return JSONResponse(body, status, headers=_retry_header(error))


def _retry_header(error: MPAError) -> dict[str, str]:
    return {} if error.retry_after is None else {"Retry-After": str(max(1, round(error.retry_after)))}


def add_error_handlers(app: FastAPI, respond: Callable[[Request, MPAError], JSONResponse]) -> None:
    async def on_mpa_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, MPAError)
        return respond(request, error)

    async def on_validation_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return respond(request, invalid_fields(error.errors()))

    async def on_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            return respond(request, NotFound(f"There is no route {request.method} {request.url.path}: see /docs."))
        wrapped = MPAError(str(error.detail))
        wrapped.status, wrapped.slug, wrapped.title = error.status_code, "http", str(error.detail)
        return respond(request, wrapped)

    async def on_any_error(request: Request, error: Exception) -> Response:
        log.error("Unhandled error in %s %s", request.method, request.url.path, exc_info=error)
        return respond(request, MPAError(f"An unexpected {type(error).__name__} happened: see the service's log."))

    app.add_exception_handler(MPAError, on_mpa_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(Exception, on_any_error)


def add_outage_handlers(
    app: FastAPI, respond: Callable[[Request, MPAError], JSONResponse], outages: Mapping[type[Exception], str]
) -> None:
    async def on_outage(request: Request, error: Exception) -> Response:
        name = next(name for kind, name in outages.items() if isinstance(error, kind))
        log.warning("%s %s: %s is unavailable: %s", request.method, request.url.path, name, error)
        detail = f"{name} cannot be reached now; nothing that was accepted is lost. Retry in a moment."
        return respond(request, Unavailable(detail, retry_after=OUTAGE_RETRY_AFTER))

    for kind in outages:
        app.add_exception_handler(kind, on_outage)


def invalid_fields(errors: Any) -> InvalidInput:
    """The error for what pydantic found; an unknown field gets the code that OpenAI clients know."""
    first = errors[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    error = InvalidInput(describe_validation(errors), param=place or None)
    if first["type"] == "extra_forbidden":
        error.slug = "unknown_parameter"
    return error


def describe_validation(errors: Any) -> str:
    """All problems of a request in one sentence each, naming the field."""
    parts = []
    for item in errors:
        field = ".".join(str(p) for p in item["loc"] if p != "body") or "body"
        hint = "unknown field: remove it or fix its spelling" if item["type"] == "extra_forbidden" else item["msg"]
        parts.append(f"{field}: {hint}")
    return "; ".join(parts) + "."
