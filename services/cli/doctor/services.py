"""Checks of the services: reachable, ready, of one release, protected by our key, with the right time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from services.cli.doctor.checks import broken, ok, skipped, warning
from services.cli.doctor.clocks import skew
from services.cli.doctor.deployment import ProbedService
from shared.compatibility import RELEASE, SCHEMA
from shared.contracts import Finding, WorkerInfo

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def is_here(url: str) -> bool:
    """Whether a URL points to this machine."""
    return (urlsplit(url).hostname or "") in LOOPBACK


def answering(service: ProbedService) -> Finding:
    """Whether a service is reachable and ready."""
    if service.problem:
        return broken(
            service.name,
            f"{service.url} does not answer ({service.problem})",
            f"Start it (`mpa up`, `docker compose up -d {service.name}`, or see `kubectl get pods`), or set "
            f"{service.variable} to its URL.",
        )
    if service.alive is None and service.name != "teacher":
        return broken(
            service.name,
            f"{service.url} answers, but not as MPA's {service.name} service",
            f"Set {service.variable} to that service; something else listens there.",
        )
    if service.alive is not None and service.alive.service not in (service.name, ""):
        return broken(
            service.name,
            f"{service.url} is the {service.alive.service} service",
            f"Set {service.variable} to the {service.name} service.",
        )
    if service.alive is not None and service.status != 200:
        reason = service.health.reason if service.health else f"/readyz answers {service.status}"
        return broken(
            service.name,
            f"{service.url} is not ready: {reason or 'it does not say why'}",
            "Wait if it has just started (models take minutes to load); otherwise read its log.",
        )
    told = service.alive.release if service.alive else ""
    what = f"release {told}" if told else "not MPA's own" if service.alive is None else "of an unknown release"
    return ok(service.name, f"{service.url} is ready, {what}")


def releases(services: Mapping[str, ProbedService], workers: Sequence[WorkerInfo]) -> Finding:
    """Whether all processes are of one release, or at least of one schema."""
    told = {name: service.alive for name, service in services.items() if service.alive is not None}
    found = {name: (alive.release or "unknown", alive.schema_version) for name, alive in told.items()}
    found |= {worker.id: (worker.release, worker.schema_version) for worker in workers}
    found["this command"] = (RELEASE, SCHEMA)
    words = _by_release({name: release for name, (release, _) in found.items()})
    if len({schema for _, schema in found.values()}) > 1:
        return broken(
            "releases",
            f"schemas differ: {words}",
            "Bring all services and workers to one release, in the order of docs/upgrading.md: older ones do "
            "not touch newer jobs.",
        )
    if len({release for release, _ in found.values()}) > 1:
        return warning(
            "releases",
            f"they differ: {words}",
            "Finish the upgrade, or use the `mpa` of their release. Until then they work together.",
        )
    return ok("releases", f"{words}, schema {SCHEMA}")


def key(service: ProbedService) -> Finding:
    """Whether our key is required and accepted."""
    name, variable = f"{service.name}'s key", "MPA_TEACHER_API_KEY" if service.name == "teacher" else "MPA_API_KEY"
    if service.problem:
        return skipped(name, f"{service.name} does not answer")
    if service.with_key in (401, 403):
        found = "it does not accept our key" if service.key else "it requires a key, and none is set here"
        return broken(name, found, f"Set {variable} (or its file in MPA_SECRETS_DIR) to the key of {service.url}.")
    if service.with_key >= 400:
        return broken(name, f"a plain request returns {service.with_key}", f"Read the {service.name}'s log.")
    if service.key and service.alive is not None and service.without_key < 400:
        return broken(
            name,
            "it answers without any key, although we have one",
            f"Start {service.name} with MPA_API_KEY too (environment or MPA_SECRETS_DIR): it is open to anyone.",
        )
    if service.key is None and service.alive is not None and not is_here(service.url):
        return warning(name, "anyone who can reach it may use it", "Set MPA_API_KEY for all services and this command.")
    return ok(name, "accepted" if service.key else "no key is required")


def clock(service: ProbedService) -> Finding:
    """Whether its clock agrees with ours."""
    name = f"{service.name}'s clock"
    if service.ahead is None:
        return skipped(name, "it reports no time" if not service.problem else f"{service.name} does not answer")
    return skew(name, service.ahead)


def _by_release(found: Mapping[str, str]) -> str:
    groups: dict[str, list[str]] = {}
    for name, release in found.items():
        groups.setdefault(release, []).append(name)
    if len(groups) == 1:
        return f"all {len(found)} are release {next(iter(groups))}"
    return "; ".join(f"{release}: {', '.join(names)}" for release, names in sorted(groups.items()))
