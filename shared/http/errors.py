"""Typed errors as responses: problem+json, or OpenAI's shape on the chat routes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

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
        return respond(request, invalid_fields(error.errors(), error.body))

    async def on_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            return respond(request, NotFound(f"There is no route {request.method} {request.url.path}: see /docs."))
        if error.status_code == 405:
            return _wrong_method(request, respond)
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


def _wrong_method(request: Request, respond: Callable[[Request, MPAError], JSONResponse]) -> JSONResponse:
    """``Allow`` names the methods of all routes with this path: the router names those of the first one alone."""
    allowed = ", ".join(sorted(_methods(request.scope)))
    error = MPAError(f"{request.method} is not possible for {request.url.path}: use {allowed}.")
    error.status, error.slug, error.title = 405, "method-not-allowed", "Method Not Allowed"
    response = respond(request, error)
    response.headers["Allow"] = allowed
    return response


def speaks_openai(scope: Scope) -> bool:
    """Whether a model service answers errors of this request in OpenAI's shape: on the routes that OpenAI has, on
    paths under ``/v1`` that are not ours, and for methods that a route of ours does not have.
    """
    path: str = scope["path"]
    if not path.startswith("/v1/"):
        return path == "/v1"
    return path.startswith(OPENAI_PATHS) or not any(
        route.matches(scope)[0] is Match.FULL for route in scope["app"].routes
    )


def _methods(scope: Scope) -> set[str]:
    matching = [route for route in scope["app"].routes if route.matches(scope)[0] is not Match.NONE]
    return {method for route in matching for method in getattr(route, "methods", None) or ()}


def add_outage_handlers(
    app: FastAPI, respond: Callable[[Request, MPAError], JSONResponse], outages: Mapping[type[Exception], str]
) -> None:
    async def on_outage(request: Request, error: Exception) -> Response:
        words = next(words for kind, words in outages.items() if isinstance(error, kind))
        log.warning("%s %s: %s: %s", request.method, request.url.path, words, error)
        detail = f"{words} now; nothing that was accepted is lost. Retry in a moment."
        return respond(request, Unavailable(detail, retry_after=OUTAGE_RETRY_AFTER))

    for kind in outages:
        app.add_exception_handler(kind, on_outage)


def invalid_fields(errors: Any, body: Any = None) -> InvalidInput:
    """The error for what pydantic found in ``body``; an unknown field gets the code that OpenAI clients know."""
    first = errors[0]
    error = InvalidInput(describe_validation(errors, body), param=_place(first, body) or None)
    if first["type"] == "extra_forbidden":
        error.slug = "unknown_parameter"
    return error


def describe_validation(errors: Any, body: Any = None) -> str:
    """All problems of a request in one sentence each, naming the field."""
    found: dict[str, list[str]] = {}
    for item in errors:
        words = found.setdefault(_place(item, body) or "body", [])
        if _words(item) not in words:
            words.append(_words(item))
    return "; ".join(f"{place}: {', or '.join(words)}" for place, words in found.items()) + "."


def _words(item: Any) -> str:
    if item["type"] == "extra_forbidden":
        return "unknown field: remove it or fix its spelling"
    if item["type"] == "missing":
        return "missing: the field is required"
    if item["type"] == "json_invalid":
        return f"it is not valid JSON ({item.get('ctx', {}).get('error', item['msg'])} at character {item['loc'][-1]})"
    return (
        str(item["msg"])
        .removeprefix("Value error, ")
        .removeprefix("Assertion failed, ")
        .replace("Input should", "should")
    )


def _place(item: Any, body: Any) -> str:
    """The path of a field as callers write it: without pydantic's names for the members of a union."""
    if item["type"] == "json_invalid":
        return ""
    steps = item["loc"][1:] if item["loc"][:1] == ("body",) else item["loc"]
    path, here = "", body
    for number, step in enumerate(steps):
        last = number == len(steps) - 1
        if isinstance(here, dict):
            if step not in here and not (last and item["type"] == "missing"):
                continue
            here = here.get(step)
        elif isinstance(here, list) and isinstance(step, int):
            here = here[step] if step < len(here) else None
        elif body is not None:
            continue
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else str(step)
    return path
