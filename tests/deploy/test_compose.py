"""The compose file, the Dockerfiles and the manifests agree."""

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


def image_of(service: dict[str, Any]) -> str:
    """The image's name with the defaults of its variables."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", service["image"])


def test_images_equal_the_manifests(compose: dict[str, Any], overlay: list[dict[str, Any]]) -> None:
    """Names and tags are equal. GPU manifests use the images of the profile `gpu`, the others those of `cpu`."""
    built = {image_of(service): service["build"]["dockerfile"] for service in merged(compose).values()}
    assert set(built.values()) == {f"services/{name}/Dockerfile" for name in SERVICES}
    for image, dockerfile in built.items():
        assert dockerfile == f"services/{image.split(':')[0].removeprefix('mpa-')}/Dockerfile"
    for item in workloads(overlay):
        (container,) = pod_of(item)["spec"]["containers"]
        assert container["image"] in {*built, image_of(compose["services"]["redis"])}, item["metadata"]["name"]


def test_both_start_redis_with_the_same_script(compose: dict[str, Any], overlay: list[dict[str, Any]]) -> None:
    """The compose test runs the script for real, so it also covers Kubernetes."""
    service = compose["services"]["redis"]
    mounts = dict(mount.split(":")[:2] for mount in service["volumes"])
    script = next(ROOT / source for source, target in mounts.items() if target == service["command"][1])
    maps = {i["metadata"]["name"]: i["data"] for i in of_kind(overlay, "ConfigMap")}
    (stateful,) = of_kind(overlay, "StatefulSet")
    pod = pod_of(stateful)["spec"]
    (container,) = pod["containers"]
    volumes = {v["name"]: v["configMap"]["name"] for v in pod["volumes"] if "configMap" in v}
    files = {
        f"{mount['mountPath']}/{name}": text
        for mount in container["volumeMounts"]
        if mount["name"] in volumes
        for name, text in maps[volumes[mount["name"]]].items()
    }
    assert files[container["command"][1]] == script.read_text()
    assert service["command"][:1] == container["command"][:1] == ["sh"]
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["exec"]["command"] == [*container["command"], "ping"]
    assert service["healthcheck"]["test"] == ["CMD", *service["command"], "ping"]
    assert not container.get("env"), "the way without a password is Compose's alone"


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
            assert source.startswith("${") or source in compose["volumes"] or (ROOT / source).is_file(), volume
        assert set(service.get("secrets", [])) <= set(compose["secrets"])


@pytest.mark.parametrize("name", SERVICES)
def test_copied_paths_exist_and_are_no_other_service(name: str) -> None:
    text = (ROOT / f"services/{name}/Dockerfile").read_text()
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", text, flags=re.MULTILINE)
    for path in " ".join(copies).split():
        assert (ROOT / path).exists(), path
    copied = set(re.findall(r"services/([a-z]+) ", " ".join(f"{c} " for c in copies)))
    assert copied - {"cli"} == {name}


@pytest.mark.parametrize("name", SERVICES)
def test_images_keep_their_promises(name: str) -> None:
    """Also for users who run an image without Compose."""
    *_, final = (ROOT / f"services/{name}/Dockerfile").read_text().split("\nFROM ")
    assert final.startswith("${PYTHON_IMAGE}\n"), "the final stage has no tools of the build"
    assert "\nUSER 10001:10001\n" in final and "\nSTOPSIGNAL SIGTERM\n" in final and "\nHEALTHCHECK " in final
    for label in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in final
    code, packages = final.index("\nCOPY shared "), final.index("\nCOPY --from=build ")
    assert packages < code, "a change of the code must not copy the packages again"
    compilers = re.findall(r"\b(?:gcc|g\+\+|clang|build-essential)\b", final)
    # Triton compiles when vLLM starts, and only on CUDA.
    assert compilers == (["gcc"] if name == "teacher" else [])
    if compilers:
        assert re.search(r'if \[ "\$ACCEL" = cpu \]; then packages=libnuma1; else packages="gcc [^"]+"; fi', final)


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
