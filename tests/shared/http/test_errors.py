"""Errors as responses: problem+json, and OpenAI's shape on the chat routes."""

from __future__ import annotations

import pytest

from tests.shared.http.small_app import client_of, make_app


async def test_typed_errors_become_problem_json() -> None:
    async with client_of(make_app()) as client:
        response = await client.get("/v1/busy")
    assert response.status_code == 429
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["retry-after"] == "2"
    assert response.json() == {
        "type": "urn:mpa:problem:busy", "title": "Too many requests", "status": 429, "detail": "The queue is full.",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"count": "x"}, "count: "),
        ({"count": 1, "cuont": 2}, "cuont: unknown field"),
        ({}, "count: missing"),
        ({"count": 1, "names": {"a": 1}}, "names: should be a valid string, or should be a valid list."),
        ({"count": 1, "names": ["a", 1]}, "names[1]: should be a valid string"),
        ({"count": 1, "pets": [{"kind": "cat"}]}, "pets[0].lives: missing"),
        ({"count": 1, "pets": [{"kind": "dog", "name": 5}]}, "pets[0].name: should be a valid string"),
    ],
)
async def test_validation_names_the_field(body: dict[str, object], words: str) -> None:
    async with client_of(make_app()) as client:
        response = await client.post("/v1/echo", json=body)
    assert response.status_code == 422
    assert words in response.json()["detail"]


async def test_unexpected_errors_reveal_nothing() -> None:
    async with client_of(make_app()) as client:
        response = await client.get("/v1/crash")
    assert response.status_code == 500
    assert "secret" not in response.text
    assert response.headers["content-type"] == "application/problem+json"


async def test_unknown_route_and_method() -> None:
    async with client_of(make_app()) as client:
        assert (await client.get("/v2")).json()["detail"].startswith("There is no route GET /v2")
        response = await client.delete("/v1/echo")
    assert response.status_code == 405 and response.headers["allow"] == "POST, PUT"
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"] == "DELETE is not possible for /v1/echo: use POST, PUT."


async def test_openai_shape_on_chat_routes_only() -> None:
    async with client_of(make_app(openai_errors=True)) as client:
        error = (await client.get("/v1/models")).json()["error"]
        problem = (await client.get("/v1/busy")).json()
    assert error["message"] == "no such model"
    assert error["type"] == "not_found_error"
    assert problem["detail"] == "The queue is full."


async def test_bodies_that_are_not_json_are_refused_in_words() -> None:
    headers = {"content-type": "application/json"}
    async with client_of(make_app()) as client:
        response = await client.post("/v1/echo", content=b'{"count": ', headers=headers)
        assert response.status_code == 422 and "not valid JSON (Expecting value" in response.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/nothing", 404), ("GET", "/v1", 404), ("PUT", "/v1/models", 405), ("DELETE", "/v1/echo", 405)],
)
async def test_paths_and_methods_that_a_model_service_does_not_have(method: str, path: str, status: int) -> None:
    async with client_of(make_app(openai_errors=True)) as client:
        response = await client.request(method, path)
        outside = await client.get("/nothing")
    assert response.status_code == status and path in response.json()["error"]["message"]
    assert ("allow" in response.headers) == (status == 405)
    assert outside.headers["content-type"] == "application/problem+json"
