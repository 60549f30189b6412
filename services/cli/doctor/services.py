"""Do the services answer, are they ready, of one release, and behind the key that we have?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from services.cli.doctor.checks import broken, ok, skipped, warning
from services.cli.doctor.deployment import Service
from shared.compatibility import RELEASE, SCHEMA
from shared.contracts import Finding, WorkerInfo

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MOST_SKEW = 5.0


def is_here(url: str) -> bool:
    """Whether a URL leads to this machine."""
    return (urlsplit(url).hostname or "") in LOOPBACK


def answering(service: Service) -> Finding:
    """Reachable and ready."""
    if service.problem:
        return broken(
            service.name,
            f"{service.url} does not answer ({service.problem})",
            f"Start it (`mpa up`, `docker compose up -d {service.name}`, or see `kubectl get pods`), or set "
            f"{service.variable} to where it is.",
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
            "Wait if it has just started (models take minutes to load); else read its log and remove the reason.",
        )
    told = service.alive.release if service.alive else ""
    what = f"release {told}" if told else "not MPA's own" if service.alive is None else "of a release that tells none"
    return ok(service.name, f"{service.url} is ready, {what}")


def releases(services: Mapping[str, Service], workers: Sequence[WorkerInfo]) -> Finding:
    """All processes of one release, or at least of one schema."""
    told = {name: service.alive for name, service in services.items() if service.alive is not None}
    found = {name: (alive.release or "unknown", alive.schema_version) for name, alive in told.items()}
    found |= {worker.id: (worker.release, worker.schema_version) for worker in workers}
    found["this command"] = (RELEASE, SCHEMA)
    words = _by_release({name: release for name, (release, _) in found.items()})
    if len({schema for _, schema in found.values()}) > 1:
        return broken(
            "releases",
            f"schemas differ: {words}",
            "Bring all services and workers to one release, in the order of docs/upgrading.md: the older ones leave "
            "newer jobs alone.",
        )
    if len({release for release, _ in found.values()}) > 1:
        return warning(
            "releases", f"they differ: {words}", "Finish the upgrade, or use the `mpa` of their release: they fit."
        )
    return ok("releases", f"{words}, schema {SCHEMA}")


def key(service: Service) -> Finding:
    """Our key is accepted, and needed."""
    name, variable = f"{service.name}'s key", "MPA_TEACHER_API_KEY" if service.name == "teacher" else "MPA_API_KEY"
    if service.problem:
        return skipped(name, f"{service.name} does not answer")
    if service.with_key in (401, 403):
        found = "our key is not the one it asks for" if service.key else "it asks for a key, and we have none"
        return broken(name, found, f"Set {variable} (or its file in MPA_SECRETS_DIR) to the key of {service.url}.")
    if service.with_key >= 400:
        return broken(name, f"a plain request is answered with {service.with_key}", f"Read the {service.name}'s log.")
    if service.key and service.alive is not None and service.without_key < 400:
        return broken(
            name,
            "it answers without any key, though we have one",
            f"Start {service.name} with MPA_API_KEY too (environment or MPA_SECRETS_DIR): it stands open.",
        )
    if service.key is None and service.alive is not None and not is_here(service.url):
        return warning(name, "whoever reaches it may use it", "Set MPA_API_KEY for all services and for this command.")
    return ok(name, "accepted" if service.key else "none is asked for")


def clock(service: Service) -> Finding:
    """Its clock against ours."""
    name = f"{service.name}'s clock"
    if service.ahead is None:
        return skipped(name, "it tells no time" if not service.problem else f"{service.name} does not answer")
    return skew(name, service.ahead)


def skew(name: str, ahead: float) -> Finding:
    """A finding about a clock that is ``ahead`` seconds before ours."""
    if abs(ahead) > MOST_SKEW:
        side = "ahead of" if ahead > 0 else "behind"
        return broken(
            name,
            f"{abs(ahead):.0f} s {side} this machine's",
            "Have NTP (chrony, systemd-timesyncd) set the clock on that machine and on this one: times in records and "
            "logs would not fit, and object stores refuse requests that are signed minutes off.",
        )
    return ok(name, f"within {max(1.0, abs(ahead)):.0f} s of ours")


def _by_release(found: Mapping[str, str]) -> str:
    groups: dict[str, list[str]] = {}
    for name, release in found.items():
        groups.setdefault(release, []).append(name)
    if len(groups) == 1:
        return f"all {len(found)} are release {next(iter(groups))}"
    return "; ".join(f"{release}: {', '.join(names)}" for release, names in sorted(groups.items()))
