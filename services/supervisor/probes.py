"""Whether a service is ready: each probe returns None if it is, and otherwise the reason in a few words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx
from pydantic import ValidationError
from redis.exceptions import RedisError

from shared.client import certificates
from shared.compatibility import read_shown
from shared.contracts import Health
from shared.state.connection import open_async_redis

Probe = Callable[[], Awaitable[str | None]]
PROBE_SECONDS = 5.0


def http_probe(url: str) -> Probe:
    """Ready when ``GET <url>/readyz`` answers 200."""

    async def probe() -> str | None:
        try:
            async with httpx.AsyncClient(timeout=PROBE_SECONDS, trust_env=False, verify=certificates()) as client:
                response = await client.get(f"{url}/readyz")
        except httpx.HTTPError as error:
            return f"{url} does not answer ({type(error).__name__})"
        return None if response.status_code == 200 else _reason(response)

    return probe


def redis_probe(url: str) -> Probe:
    """Ready when Redis answers PING. It refuses while it loads its file."""

    async def probe() -> str | None:
        try:
            async with open_async_redis(url, PROBE_SECONDS) as client:
                await client.ping()
        except (RedisError, OSError) as error:
            return f"Redis does not answer: {error}"
        return None

    return probe


def _reason(response: httpx.Response) -> str:
    try:
        health = read_shown(Health, response.content)
    except ValidationError:
        return f"/readyz answers {response.status_code}"
    return health.reason or f"/readyz answers {response.status_code}"
