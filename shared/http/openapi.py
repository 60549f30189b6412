"""What an OpenAPI document needs besides what FastAPI finds: every error that occurs, the API key, and their headers.

Generated clients read errors only where the document says which form they have.
"""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from shared.contracts import OpenAIError, Problem
from shared.http.examples import add_examples
from shared.sse import MEDIA_TYPE

REF = "#/components/schemas/{model}"
JSON, PROBLEM_JSON = "application/json", "application/problem+json"
OPENAI_TAG = "openai"
"""Marks the operations whose errors have OpenAI's shape."""
_KEY = "ApiKey"
_METHODS = ("get", "put", "post", "delete", "patch")
_ALLOW = {"Allow": {"description": "methods that the path has", "required": True, "schema": {"type": "string"}}}
_RETRY = {"Retry-After": {"description": "seconds to wait before a retry", "schema": {"type": "integer"}}}
_HEADERS = {405: _ALLOW, 429: _RETRY, 503: _RETRY}
_WORDS = {
    400: "The body cannot be read as JSON.",
    401: "The API key is missing or wrong.",
    405: "The path does not have this method.",
    413: "The body is larger than MPA_MAX_BODY.",
    422: "A value is wrong; the error names it.",
    503: "A needed part is not available now: retry.",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The statuses of errors that a route may answer, besides those that follow from its kind."""
    return {status: {"description": _words(status)} for status in statuses}


def sse(words: str, example: str, data: type[BaseModel] | None = None) -> dict[str, Any]:
    """The content of a response that is a stream of server-sent events, each with ``data`` as JSON.

    ``itemSchema`` is of OpenAPI 3.2: what describes each event has no other place. FastAPI writes it too.
    """
    text: dict[str, Any] = {"type": "string", "description": "data of the event"}
    if data is not None:
        schema = named(data.__name__, data.model_json_schema(ref_template=REF, mode="serialization"))
        text |= {"contentMediaType": JSON, "contentSchema": schema}
    names = {"event": "type of the event", "id": "number of the event"}
    others = {name: {"type": "string", "description": description} for name, description in names.items()}
    item = {"type": "object", "description": words, "properties": {"data": text, **others}, "required": ["data"]}
    return {MEDIA_TYPE: {"itemSchema": item, "example": example}}


def named(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """``schema`` as a component of the document: generators name their class after it."""
    definitions = schema.pop("$defs", {})
    return {"$ref": REF.format(model=name), "$defs": {name: {"title": name, **schema}, **definitions}}


def complete_openapi(app: FastAPI, *, openai_errors: bool, outages: bool) -> None:
    """Have ``app`` describe itself wholly. ``outages``: any route under ``/v1`` may answer 503."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = plain()
            _complete(document, openai_errors=openai_errors, outages=outages)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(document: dict[str, Any], *, openai_errors: bool, outages: bool) -> None:
    components = document.setdefault("components", {})
    schemas: dict[str, Any] = components.setdefault("schemas", {})
    components["securitySchemes"] = {
        _KEY: {"type": "http", "scheme": "bearer", "description": "the key in MPA_API_KEY, if one is set"}
    }
    forms = (Problem, OpenAIError) if openai_errors else (Problem,)
    for form in forms:
        schemas[form.__name__] = form.model_json_schema(ref_template=REF)
    for path, operation in _operations(document):
        is_openai = OPENAI_TAG in operation.get("tags", ())
        under_v1 = path.startswith("/v1/")
        if under_v1:
            operation["security"] = [{_KEY: []}]
        for status in _statuses(path, operation, is_openai=is_openai, outages=outages):
            operation["responses"].setdefault(str(status), {"description": _words(status)})
        for status, response in operation["responses"].items():
            if int(status) >= 400 and not _is_own(response):
                shaped = is_openai or (openai_errors and under_v1 and int(status) == 405)
                response["content"] = _error_content(int(status), shaped)
                response.setdefault("headers", {}).update(_HEADERS.get(int(status), {}))
        operation["responses"] = dict(sorted(operation["responses"].items()))
    for holder in _holders(document):
        schemas |= {name: schema for name, schema in holder.pop("$defs").items() if name not in schemas}
    for name, schema in schemas.items():
        if name.endswith(("-Input", "-Output")):  # generators name their classes after the titles
            schema["title"] = name.replace("-", "")
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    add_examples(document)


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                yield path, item[method]


def _statuses(path: str, operation: dict[str, Any], *, is_openai: bool, outages: bool) -> set[int]:
    """The errors that follow from the kind of the operation."""
    found = {405}
    if path.startswith("/v1/"):
        found |= {401, 413} | ({503} if outages else set())
    if "{" in path:
        found.add(404)
    if "requestBody" in operation:
        found |= {400} if is_openai else {400, 422}
    if operation.get("parameters"):
        found.add(422)
    return found


def _is_own(response: dict[str, Any]) -> bool:
    """Whether the route itself says what the response holds. FastAPI's form of a 422 is never sent."""
    schema = response.get("content", {}).get(JSON, {}).get("schema")
    return bool(schema) and schema != {"$ref": REF.format(model="HTTPValidationError")}


def _error_content(status: int, shaped_as_openai: bool) -> dict[str, Any]:
    phrase = HTTPStatus(status).phrase
    if shaped_as_openai:
        error = {"message": _words(status), "type": "invalid_request_error", "param": None, "code": "invalid-input"}
        return {JSON: {"schema": {"$ref": REF.format(model="OpenAIError")}, "example": {"error": error}}}
    slug = phrase.lower().replace(" ", "-")
    problem = {"type": f"urn:mpa:problem:{slug}", "title": phrase, "status": status, "detail": _words(status)}
    return {PROBLEM_JSON: {"schema": {"$ref": REF.format(model="Problem")}, "example": problem}}


def _words(status: int) -> str:
    return _WORDS.get(status, HTTPStatus(status).phrase)


def _holders(node: Any) -> Iterator[dict[str, Any]]:
    """Schemas with definitions of their own: what a route wrote out that is not read from its signature."""
    if isinstance(node, dict):
        if "$defs" in node:
            yield node
        for value in list(node.values()):
            yield from _holders(value)
    elif isinstance(node, list):
        for value in node:
            yield from _holders(value)
