"""The compose file, the Dockerfiles and the manifests tell one story."""

from __future__ import annotations

import re
from typing import Any

import pytest

from services.parity.app import make_app as parity_app
from services.teacher.app import make_app as teacher_app
from shared.settings import ParitySettings, TeacherSettings
from tests.deploy.conftest import ROOT, of_kind, pod_of, workloads

SERVICES = ("teacher", "student", "parity", "trainer")


def merged(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: service for name, service in compose["services"].items() if name != "redis"}


def image_name(reference: str) -> str:
    return reference.split(":")[0]


def test_images_equal_the_manifests(compose: dict[str, Any], overlay: list[dict[str, Any]]) -> None:
    built = {image_name(s["image"]): s["build"]["dockerfile"] for s in merged(compose).values()}
    assert built == {f"mpa-{name}": f"services/{name}/Dockerfile" for name in SERVICES}
    used = {image_name(c["image"]) for i in workloads(overlay) for c in pod_of(i)["spec"]["containers"]}
    assert used == {*built, "redis"}
    redis = re.search(r":-(.+)}", compose["services"]["redis"]["image"])
    (stateful,) = of_kind(overlay, "StatefulSet")
    assert redis is not None and pod_of(stateful)["spec"]["containers"][0]["image"] == redis[1]


def test_both_run_the_same_command(compose: dict[str, Any], overlay: list[dict[str, Any]]) -> None:
    for item in of_kind(overlay, "Deployment"):
        name = item["metadata"]["name"]
        service = compose["services"][name]
        dockerfile = (ROOT / service["build"]["dockerfile"]).read_text()
        default = re.search(r'^CMD \["python", "-m", "(.+)"\]$', dockerfile, flags=re.MULTILINE)
        assert default is not None
        command = service.get("command", ["python", "-m", default[1]])
        assert pod_of(item)["spec"]["containers"][0]["command"] == command
        assert (ROOT / command[2].replace(".", "/")).with_suffix(".py").exists() or (
            ROOT / command[2].replace(".", "/") / "__main__.py"
        ).exists()


def test_nothing_listens_beyond_loopback(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)
    assert "ports" not in compose["services"]["redis"]


def test_services_are_hardened(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"] and service["cpus"], name


def test_named_volumes_and_secrets_are_declared(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source.startswith("${") or source in compose["volumes"]
        assert set(service.get("secrets", [])) <= set(compose["secrets"])


@pytest.mark.parametrize("name", SERVICES)
def test_copied_paths_exist_and_are_no_other_service(name: str) -> None:
    text = (ROOT / f"services/{name}/Dockerfile").read_text()
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", text, flags=re.MULTILINE)
    for path in " ".join(copies).split():
        assert (ROOT / path).exists(), path
    copied = set(re.findall(r"services/([a-z]+) ", " ".join(f"{c} " for c in copies)))
    assert copied - {"cli"} == {name}


def test_probes_hit_real_routes(overlay: list[dict[str, Any]]) -> None:
    routes = {route.path for route in parity_app(ParitySettings()).routes}  # type: ignore[attr-defined]
    routes &= {route.path for route in teacher_app(TeacherSettings()).routes}  # type: ignore[attr-defined]
    probed = set()
    for item in of_kind(overlay, "Deployment"):
        container = pod_of(item)["spec"]["containers"][0]
        ports = {p["name"] for p in container.get("ports", [])}
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            if kind in container:
                assert container[kind]["httpGet"]["port"] in ports
                probed.add(container[kind]["httpGet"]["path"])
    assert probed == {"/healthz", "/readyz"}
    assert probed <= routes
    for name in SERVICES:
        assert "/readyz" in (ROOT / f"services/{name}/Dockerfile").read_text()
