"""All checks, in the order in which their findings are shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from services.cli.doctor.backing import disk_findings, redis_findings, store_findings, worker_findings
from services.cli.doctor.checks import Check, examine, in_thread
from services.cli.doctor.deployment import SERVICES, ProbedService, secret, survey
from services.cli.doctor.fit import fit_findings
from services.cli.doctor.models import student_findings, teacher_findings
from services.cli.doctor.records import record_findings
from services.cli.doctor.services import answering, clock, key, releases
from shared.client import ChatClient, StudentClient
from shared.compatibility import RELEASE
from shared.contracts import Diagnosis, Finding, FindingState, WorkerInfo
from shared.settings import ClientSettings
from shared.state.presence import living_workers, waiting_messages
from shared.store import Store

MODEL_PATIENCE = 6
"""How many times longer a model may take than a service."""
_REDIS = (
    "Start Redis, or set MPA_REDIS_URL to it. Outside its network, run this command where the services run, "
    "or skip the checks: --skip redis --skip workers --skip releases."
)


async def diagnose(settings: ClientSettings, seconds: float, skip: Sequence[str] = ()) -> Diagnosis:
    """The findings of all checks except those in ``skip``. ``seconds`` is the limit of one check."""
    services = await survey(settings, seconds)
    checks = [check for check in make_checks(settings, services, seconds) if check.name not in skip]
    findings = await examine(checks)
    healthy = all(finding.state is not FindingState.BROKEN for finding in findings)
    return Diagnosis(healthy=healthy, release=RELEASE, findings=findings)


def make_checks(settings: ClientSettings, services: dict[str, ProbedService], seconds: float) -> list[Check]:
    """All checks. They are independent: none needs the findings of another."""
    workers = _Once(lambda: living_workers(settings.redis_url, seconds))

    def open_store() -> Store:
        return Store(settings.store_url, settings.data_dir / "cache")

    async def of_releases() -> list[Finding]:
        return [releases(services, await workers.get())]

    async def of_workers() -> list[Finding]:
        waiting = await in_thread(lambda: waiting_messages(settings.redis_url, seconds))
        return worker_findings(await workers.get(), waiting)

    async def of_teacher() -> list[Finding]:
        service, limit = services["teacher"], MODEL_PATIENCE * seconds
        async with ChatClient(service.url, model=settings.teacher_name, api_key=service.key, timeout=limit) as client:
            return await teacher_findings(client, settings.teacher_reasoning_tokens)

    async def of_student() -> list[Finding]:
        limit, ours = MODEL_PATIENCE * seconds, secret(settings.api_key)
        async with StudentClient(
            settings.student_url, model=settings.student_name, api_key=ours, timeout=limit
        ) as client:
            return await student_findings(client, open_store, settings.student_name, settings.student_reasoning_tokens)

    look = "Read the log of the service that this check asks."
    return [
        *(Check(name, _of_service(services[name]), look) for name in SERVICES),
        Check("releases", of_releases, _REDIS, seconds),
        Check("redis", lambda: redis_findings(settings.redis_url, seconds), _REDIS, seconds),
        Check("workers", of_workers, _REDIS, seconds),
        Check(
            "store",
            lambda: store_findings(open_store),
            "Set MPA_STORE to a store that this machine and all services reach; for s3://, set the credentials too.",
            3 * seconds,
        ),
        Check("jobs", lambda: record_findings(settings.redis_url, open_store, 2 * seconds), _REDIS, 3 * seconds),
        Check(
            "disk",
            lambda: disk_findings(settings),
            "Set MPA_DATA_DIR and MPA_STORE to local folders.",
            seconds,
        ),
        Check("teacher-answers", of_teacher, "Set MPA_TEACHER_URL, MPA_TEACHER_NAME and the key.", 6 * seconds),
        Check("student-answers", of_student, "Set MPA_STUDENT_URL and the key; read its log.", 6 * seconds),
        Check("settings", lambda: fit_findings(settings, services, seconds), look, 3 * seconds),
    ]


CHECKS = (
    *SERVICES,
    "releases",
    "redis",
    "workers",
    "store",
    "jobs",
    "disk",
    "teacher-answers",
    "student-answers",
    "settings",
)


def _of_service(service: ProbedService) -> Callable[[], Awaitable[list[Finding]]]:
    async def run() -> list[Finding]:
        first = answering(service)
        return [first] if service.problem else [first, key(service), clock(service)]

    return run


class _Once:
    """A blocking call whose result two checks need; the first to ask makes it."""

    def __init__(self, call: Callable[[], list[WorkerInfo]]) -> None:
        self._call = call
        self._found: list[WorkerInfo] | None = None

    async def get(self) -> list[WorkerInfo]:
        if self._found is None:
            self._found = await in_thread(self._call)
        return self._found
