"""Settings that are valid on their own but do not fit together."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from services.cli.doctor.checks import broken, ok, warning
from services.cli.doctor.deployment import ProbedService, secret
from services.cli.doctor.services import LOOPBACK, is_here
from shared.client import ChatClient, HttpClient, StudentClient
from shared.contracts import CheckpointList, Finding
from shared.errors import MPAError
from shared.settings import ClientSettings
from shared.settings.redis_url import parse_redis_url

NAME = "settings"


class _Trainer(HttpClient):
    async def checkpoints(self) -> CheckpointList:
        return await self._call(CheckpointList, "GET", "/v1/checkpoints")


async def fit_findings(
    settings: ClientSettings, services: Mapping[str, ProbedService], seconds: float
) -> list[Finding]:
    """What is wrong with the settings taken together, or one finding that they fit."""
    found = [*_places(settings), *await _names(settings, services, seconds), *await _stores(settings, seconds)]
    return found or [ok(NAME, "they fit together")]


def _places(settings: ClientSettings) -> list[Finding]:
    found = []
    kind = urlsplit(settings.store_url).scheme
    if settings.teacher_url.rstrip("/") == settings.student_url.rstrip("/"):
        found.append(
            broken(NAME, f"teacher and student are both at {settings.teacher_url}", "Give each model its own URL.")
        )
    if kind == "memory":
        found.append(
            broken(
                NAME, "MPA_STORE is in memory: no two processes share it", "Set MPA_STORE to file://, s3:// or gs://."
            )
        )
    away = [name for name in ("parity", "student", "trainer") if not is_here(getattr(settings, f"{name}_url"))]
    if away and kind in ("", "file"):
        found.append(
            warning(
                NAME,
                f"MPA_STORE is a folder ({settings.store_url}), and not all services are on this machine",
                "This works only if all of them share that folder as a volume; otherwise use s3:// or gs://.",
            )
        )
    if away and _redis_is_here(settings.redis_url):
        found.append(
            warning(NAME, "MPA_REDIS_URL is this machine, but services run on others", "Set it to their Redis.")
        )
    return found


def _redis_is_here(url: str) -> bool:
    address = parse_redis_url(url)
    return all(host in LOOPBACK for host, _ in address.hosts)


async def _names(settings: ClientSettings, services: Mapping[str, ProbedService], seconds: float) -> list[Finding]:
    found = []
    for name, model in (("teacher", settings.teacher_name), ("student", settings.student_name)):
        service = services[name]
        if service.problem or service.with_key != 200:
            continue
        async with ChatClient(service.url, model=model, api_key=service.key, timeout=seconds) as client:
            served = [one.id for one in (await client.models()).data]
        if model not in served:
            found.append(
                broken(
                    NAME,
                    f"{service.url} has no model {model!r}; it has {', '.join(map(repr, served)) or 'none'}",
                    f"Set MPA_{name.upper()}_NAME to one of them, for the parity service and trainer too.",
                )
            )
    return found


async def _stores(settings: ClientSettings, seconds: float) -> list[Finding]:
    """Whether the student, the trainer and this command use one store."""
    key = secret(settings.api_key)
    try:
        async with (
            StudentClient(settings.student_url, model=settings.student_name, api_key=key, timeout=seconds) as student,
            _Trainer(settings.trainer_url, api_key=key, timeout=seconds) as trainer,
        ):
            lists = {"student": await student.checkpoints(), "trainer": await trainer.checkpoints()}
    except MPAError:
        return []  # the checks of these services report it
    places = {name: _place(found) for name, found in lists.items()} | {"this command": settings.store_url.rstrip("/")}
    places = {name: place for name, place in places.items() if place}
    if len(set(places.values())) > 1:
        words = ", ".join(f"{name}: {place}" for name, place in places.items())
        return [broken(NAME, f"the artifact stores differ: {words}", "Set MPA_STORE to the same URL everywhere.")]
    names = {name: found.student for name, found in lists.items()}
    if len(set(names.values())) > 1:
        words = ", ".join(f"{name}: {student!r}" for name, student in names.items())
        return [broken(NAME, f"the students differ: {words}", "Set MPA_STUDENT_NAME to the same name everywhere.")]
    return []


def _place(found: CheckpointList) -> str:
    """The root of the store that holds these checkpoints; empty if there are none."""
    url = found.checkpoints[0].url if found.checkpoints else ""
    return url.rpartition(f"/checkpoints/{found.student}/")[0]
