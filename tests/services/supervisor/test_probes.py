"""Whether a service is ready, and otherwise why not, in a few words."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

from services.supervisor.probes import http_probe, redis_probe
from tests.quick_server import ServerThread

ANSWERS = {
    "good": Response("ok"),
    "loading": JSONResponse({"service": "student", "ready": False, "reason": "loading the model"}, 503),
    "silent": JSONResponse({"service": "student", "ready": False}, 503),
    "other": Response("<html>", 502),
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    app = FastAPI()
    app.get("/{name}/readyz")(lambda name: ANSWERS[name])
    server = ServerThread(app)
    yield server.url
    server.stop()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("good", None),
        ("loading", "loading the model"),
        ("silent", "/readyz answers 503"),
        ("other", "/readyz answers 502"),
    ],
)
async def test_a_service_is_ready_or_says_why_not(url: str, name: str, reason: str | None) -> None:
    assert await http_probe(f"{url}/{name}")() == reason


async def test_nobody_there_is_a_reason(free_port: int) -> None:
    url = f"http://127.0.0.1:{free_port}"
    assert await http_probe(url)() == f"{url} does not answer (ConnectError)"
    assert (await redis_probe(f"redis://127.0.0.1:{free_port}/0")() or "").startswith("Redis does not answer: ")


async def test_a_redis_that_answers_is_ready(redis_url: str) -> None:
    assert await redis_probe(redis_url)() is None
