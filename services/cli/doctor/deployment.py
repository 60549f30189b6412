"""The services as seen from here: health, release, clock, and whether they accept our key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx
from pydantic import SecretStr

from services.cli.doctor.clocks import Reading, nearest, read_date
from shared.client import certificates
from shared.compatibility import read_shown
from shared.concurrency import run_all
from shared.contracts import Alive, Health
from shared.settings import ClientSettings

SERVICES = ("teacher", "student", "parity", "trainer")
# For each service, a route that needs the key and costs nothing.
ROUTES = {"teacher": "/v1/models", "student": "/v1/models", "parity": "/v1/tasks", "trainer": "/v1/checkpoints"}


@dataclass(frozen=True)
class ProbedService:
    """What a service answered. ``alive`` is None if the service is not MPA's, or if its release does not report it.
    ``problem`` says why no answer came. ``ahead``: seconds by which its clock is ahead of ours, as far as
    its Date headers show.
    """

    name: str
    url: str
    key: str | None
    problem: str = ""
    alive: Alive | None = None
    health: Health | None = None
    status: int = 0
    with_key: int = 0
    without_key: int = 0
    ahead: float | None = None

    @property
    def variable(self) -> str:
        return f"MPA_{self.name.upper()}_URL"


async def survey(settings: ClientSettings, seconds: float) -> dict[str, ProbedService]:
    """Ask all four services at the same time, each for at most ``seconds``."""
    found = await run_all(*(_ask(_named(settings, name), seconds) for name in SERVICES))
    return {service.name: service for service in found}


def secret(value: SecretStr | None) -> str | None:
    return value.get_secret_value() if value else None


def _named(settings: ClientSettings, name: str) -> ProbedService:
    url = str(getattr(settings, f"{name}_url")).rstrip("/").removesuffix("/v1")
    key = settings.teacher_api_key or settings.api_key if name == "teacher" else settings.api_key
    return ProbedService(name, url, secret(key))


async def _ask(service: ProbedService, seconds: float) -> ProbedService:
    try:
        client = httpx.AsyncClient(base_url=service.url, timeout=seconds, verify=certificates())
        async with asyncio.timeout(seconds), client as http:
            return await _answers(service, http)
    except TimeoutError:
        return _silent(service, f"no answer within {seconds:g} s")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return _silent(service, f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


def _silent(service: ProbedService, problem: str) -> ProbedService:
    return ProbedService(service.name, service.url, service.key, problem)


async def _answers(service: ProbedService, http: httpx.AsyncClient) -> ProbedService:
    readings: list[Reading] = []

    async def get(route: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        sent = time.time()
        response = await http.get(route, headers=headers)
        if (reading := read_date(response, sent, time.time())) is not None:
            readings.append(reading)
        return response

    route = ROUTES[service.name]
    alive, ready = await get("/healthz"), await get("/readyz")
    keyed = await get(route, {"Authorization": f"Bearer {service.key}"} if service.key else None)
    keyless = keyed if service.key is None else await get(route)
    return ProbedService(
        service.name,
        service.url,
        service.key,
        alive=_alive(alive),
        health=_health(ready),
        status=ready.status_code,
        with_key=keyed.status_code,
        without_key=keyless.status_code,
        ahead=nearest(readings),
    )


def _alive(response: httpx.Response) -> Alive | None:
    try:
        return read_shown(Alive, response.content) if response.status_code == 200 else None
    except ValueError:
        return None


def _health(response: httpx.Response) -> Health | None:
    try:
        return read_shown(Health, response.content)
    except ValueError:
        return None
