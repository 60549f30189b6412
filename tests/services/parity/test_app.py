"""The API while its Redis is killed and comes back."""

from __future__ import annotations

from pathlib import Path

import httpx

from services.parity.app import make_app
from shared.settings import ParitySettings
from tests.embedded_redis import start_embedded_redis
from tests.polling import wait_until
from tests.quick_server import ServerThread


def test_a_redis_that_is_away_is_a_503_that_says_to_retry(settings: ParitySettings, tmp_path: Path) -> None:
    redis = start_embedded_redis(tmp_path / "redis")
    server = ServerThread(make_app(settings.model_copy(update={"redis_url": redis.url})))
    try:
        redis.process.kill()
        redis.process.wait(10)
        response = httpx.get(f"{server.url}/v1/jobs", timeout=30)
        assert response.status_code == 503 and int(response.headers["Retry-After"]) >= 1
        assert response.headers["Content-Type"] == "application/problem+json"
        assert "Redis" in response.json()["detail"] and "Retry" in response.json()["detail"]
        redis = start_embedded_redis(tmp_path / "redis", port=redis.port)
        wait_until(lambda: httpx.get(f"{server.url}/v1/jobs", timeout=30).status_code == 200)
    finally:
        server.stop()
        redis.stop()
