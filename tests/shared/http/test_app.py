"""The app factory: problem+json, OpenAI's error shape, API keys, body limits, health and metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, SecretStr

from shared.contracts import Contract, Health
from shared.errors import Busy, NotFound
from shared.http import create_app
from shared.settings import HttpSettings


class Body(Contract):
    count: int


@asynccontextmanager
async def nothing(app: FastAPI) -> AsyncIterator[None]:
    yield


def make_app(settings: HttpSettings | None = None, *, ready: bool = True, openai_errors: bool = False) -> FastAPI:
    async def readiness(app: FastAPI) -> Health:
        return Health(service="test", ready=ready, reason="" if ready else "the model loads")

    app = create_app("test", settings or HttpSettings(), lifespan=nothing, ready=readiness, openai_errors=openai_errors)

    @app.get("/v1/busy")
    async def busy() -> None:
        raise Busy("The queue is full.", retry_after=2.2)

    @app.get("/v1/crash")
    async def crash() -> None:
        raise RuntimeError("a secret")

    @app.post("/v1/echo")
    async def echo(body: Body) -> Body:
        return body

    @app.get("/v1/models")
    async def models() -> None:
        raise NotFound("no such model")

    return app


def client_of(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


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
        ({}, "count: "),
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
    assert response.status_code == 405
    assert response.headers["content-type"] == "application/problem+json"


async def test_openai_shape_on_chat_routes_only() -> None:
    async with client_of(make_app(openai_errors=True)) as client:
        error = (await client.get("/v1/models")).json()["error"]
        problem = (await client.get("/v1/busy")).json()
    assert error["message"] == "no such model"
    assert error["type"] == "not_found_error"
    assert problem["detail"] == "The queue is full."


async def test_api_key_guards_the_api_but_not_health() -> None:
    settings = HttpSettings(api_key=SecretStr("s3cret"))
    async with client_of(make_app(settings)) as client:
        assert (await client.post("/v1/echo", json={"count": 1})).status_code == 401
        wrong = {"Authorization": "Bearer s3cre"}
        assert (await client.post("/v1/echo", json={"count": 1}, headers=wrong)).status_code == 401
        right = {"Authorization": "Bearer s3cret"}
        assert (await client.post("/v1/echo", json={"count": 1}, headers=right)).status_code == 200
        assert (await client.get("/healthz")).status_code == 200


async def test_body_limit_holds_with_and_without_a_length() -> None:
    settings = HttpSettings.model_validate({"max_body": 100})
    big = b'{"count": ' + b" " * 200 + b"1}"

    async def chunks() -> AsyncIterator[bytes]:
        yield big[:60]
        yield big[60:]

    async with client_of(make_app(settings)) as client:
        declared = await client.post("/v1/echo", content=big)
        streamed = await client.post("/v1/echo", content=chunks(), headers={"content-type": "application/json"})
    assert declared.status_code == 413
    assert streamed.status_code in (400, 413)
    assert "MPA_MAX_BODY" in declared.json()["detail"]


async def test_readiness_says_why_not() -> None:
    async with client_of(make_app(ready=False)) as client:
        response = await client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["reason"] == "the model loads"


async def test_metrics_count_requests() -> None:
    async with client_of(make_app()) as client:
        await client.get("/v1/busy")
        text = (await client.get("/metrics")).text
    assert 'mpa_test_http_requests_total{method="GET",route="/v1/busy",status="429"} 1.0' in text


def test_contract_models_refuse_unknown_fields() -> None:
    assert issubclass(Body, BaseModel)
    with pytest.raises(ValueError, match="extra"):
        Body.model_validate({"count": 1, "x": 2})
