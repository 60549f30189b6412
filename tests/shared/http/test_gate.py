"""What every request passes first: the API key, the body limit and the request metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator

from pydantic import SecretStr

from shared.settings import HttpSettings
from tests.shared.http.small_app import client_of, make_app


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


async def test_metrics_count_requests() -> None:
    async with client_of(make_app()) as client:
        await client.get("/v1/busy")
        text = (await client.get("/metrics")).text
    assert 'mpa_test_http_requests_total{method="GET",route="/v1/busy",status="429"} 1.0' in text
