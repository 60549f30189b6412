"""The app factory: what ``/readyz`` answers."""

from __future__ import annotations

from tests.shared.http.small_app import client_of, make_app


async def test_readiness_says_why_not() -> None:
    async with client_of(make_app(ready=False)) as client:
        response = await client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["reason"] == "the model loads"
