"""What runs on this machine: the processes, their ports, and the environment that tells each where the others are."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from services.supervisor.probes import http_probe, redis_probe
from services.supervisor.redis_command import redis_command
from services.supervisor.service import ProcessSpec
from shared.errors import Conflict
from shared.processes.ports import free_port
from shared.settings import CommonSettings, ParitySettings, StudentSettings, TeacherSettings, TrainerSettings

WORKER_SETTLE_SECONDS = 3.0
WILDCARDS = ("", "0.0.0.0", "::")  # noqa: S104 - these are recognised, not bound


@dataclass(frozen=True)
class Plan:
    """``first`` must be ready before ``services`` start. ``endpoints``: name to URL, including the ``remote`` ones."""

    first: list[ProcessSpec]
    services: list[ProcessSpec]
    endpoints: dict[str, str]
    remote: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return [spec.name for spec in (*self.first, *self.services)]


def make_plan() -> Plan:
    """Read the settings from the environment and choose ports. Raises Conflict if a fixed port is taken."""
    common, teacher, student = CommonSettings(), TeacherSettings(), StudentSettings()
    parity, trainer = ParitySettings(), TrainerSettings()
    host = parity.host
    remote = _remote_urls(parity)
    ports = {"student": student.student_port, "parity": parity.parity_port, "trainer": trainer.trainer_port}
    if "teacher" not in remote:
        ports["teacher"] = teacher.teacher_port
    ports = {name: _choose_port(name, port, host) for name, port in ports.items() if name not in remote}
    endpoints = {**remote, **{name: _url(host, port) for name, port in ports.items()}}

    first: list[ProcessSpec] = []
    if "redis" not in remote:
        port = free_port()
        endpoints["redis"] = f"redis://127.0.0.1:{port}/0"
        first.append(_redis_spec(common.data_dir / "redis", port, endpoints["redis"]))
    env = service_environment(endpoints, ports, common)
    services = [
        _service(name, endpoints[name], env) for name in ("teacher", "student", "parity", "trainer") if name in ports
    ]
    metrics = _metrics_ports(parity)
    services += [_worker(name, {**env, "MPA_METRICS_PORT": str(port)}) for name, port in metrics.items()]
    workers = {f"{name}-worker": _url(host, port) for name, port in metrics.items()}
    return Plan(first, services, {**endpoints, **workers}, remote)


def service_environment(
    endpoints: Mapping[str, str], ports: Mapping[str, int], settings: CommonSettings
) -> dict[str, str]:
    """What every child gets: the chosen ports and URLs, and the shared store."""
    env = {f"MPA_{name.upper()}_URL": url for name, url in endpoints.items()}
    env |= {f"MPA_{name.upper()}_PORT": str(port) for name, port in ports.items()}
    env |= {"MPA_DATA_DIR": str(settings.data_dir.absolute()), "MPA_STORE": settings.store_url, "PYTHONUNBUFFERED": "1"}
    # Our own teacher requires the same key as all our services.
    if "teacher" in ports and settings.api_key is not None and "MPA_TEACHER_API_KEY" not in os.environ:
        env["MPA_TEACHER_API_KEY"] = settings.api_key.get_secret_value()
    return env


def _remote_urls(settings: ParitySettings) -> dict[str, str]:
    """The services that run elsewhere: those whose URL the user has set."""
    given = {"redis": settings.redis_url, "teacher": settings.teacher_url, "student": settings.student_url}
    return {name: url for name, url in given.items() if f"{name}_url" in settings.model_fields_set}


def _metrics_ports(settings: ParitySettings) -> dict[str, int]:
    """One port for each kind of worker: MPA_METRICS_PORT and the next one, or free ports if it is not set."""
    first, workers = settings.metrics_port or 0, ("parity", "trainer")
    chosen = {name: first + number if first else 0 for number, name in enumerate(workers)}
    return {name: _choose_port("metrics", port, settings.host) for name, port in chosen.items()}


def _service(name: str, url: str, env: Mapping[str, str]) -> ProcessSpec:
    command = (sys.executable, "-m", f"services.{name}")
    return ProcessSpec(name, command, probe=http_probe(url), env=env, url=url)


def _worker(name: str, env: Mapping[str, str]) -> ProcessSpec:
    command = (sys.executable, "-m", f"services.{name}.worker")
    # Without NOSETPS Celery would rename the process, and `ps` would not show the command.
    return ProcessSpec(f"{name}-worker", command, settle=WORKER_SETTLE_SECONDS, env={**env, "NOSETPS": "1"})


def _redis_spec(folder: Path, port: int, url: str) -> ProcessSpec:
    folder.mkdir(parents=True, exist_ok=True)
    return ProcessSpec("redis", tuple(redis_command(folder, port)), probe=redis_probe(url), url=url)


def _choose_port(name: str, port: int, host: str) -> int:
    """A free port for 0. A fixed port must be free, or a service of an earlier run would answer instead of ours."""
    bind_to = "127.0.0.1" if host in WILDCARDS else host
    if port == 0:
        return free_port(bind_to)
    with socket.socket(socket.AF_INET6 if ":" in bind_to else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind_to, port))
        except OSError as error:
            variable = f"MPA_{name.upper()}_PORT"
            raise Conflict(
                f"The {name} service cannot listen on {bind_to}:{port}: {error.strerror}. Stop the process that "
                "listens there (`mpa up` of another folder?), or set "
                f"{variable} to another port ({variable}=0 picks a free one)."
            ) from error
    return port


def _url(host: str, port: int) -> str:
    name = "127.0.0.1" if host in WILDCARDS else host
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
