"""What a schema cannot check in the manifests: that names, ports, selectors and routes match."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import grimp
import pytest
import yaml

from shared.contracts import JobSpec
from shared.settings import StudentSettings, TeacherSettings
from tests.deploy.conftest import ROOT, build, of_kind, pod_of, workloads

Objects = list[dict[str, Any]]
NAME = "app.kubernetes.io/name"


@cache
def edges() -> set[tuple[str, str]]:
    """Which workload calls which service: by the service URLs that the code of its command reads from the settings."""
    graph, found = grimp.build_graph("services", "shared", cache_dir=None), {("batch", "parity")}  # `mpa submit`
    for item in of_kind(build("cpu-demo"), "Deployment"):
        (container,) = pod_of(item)["spec"]["containers"]
        entry = container["command"][2]
        entry = f"{entry}.__main__" if (ROOT / entry.replace(".", "/")).is_dir() else entry
        own = ".".join(entry.split(".")[:2])
        modules = [m for m in {entry, *graph.find_upstream_modules(entry)} if m.startswith(f"{own}.")]
        assert len(modules) > 3, modules
        for module in modules:
            path = ROOT / module.replace(".", "/")
            text = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
            read = set(re.findall(r"settings\.(redis|teacher|student|parity|trainer)_url\b", text))
            found |= {(item["metadata"]["name"], target) for target in read}
    return found


def matches(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return bool(selector) and selector.items() <= labels.items()


def labels_of(item: dict[str, Any]) -> dict[str, str]:
    return pod_of(item)["metadata"]["labels"]


def metrics_port(item: dict[str, Any]) -> int | None:
    """The port of a worker's metrics; None for other workloads."""
    (container,) = pod_of(item)["spec"]["containers"]
    found = [port["containerPort"] for port in container.get("ports", []) if port["name"] == "metrics"]
    return found[0] if found else None


def test_workers_show_metrics_where_the_settings_say_and_only_to_the_monitoring(overlay: Objects) -> None:
    settings = next(i for i in of_kind(overlay, "ConfigMap") if i["metadata"]["name"].startswith("settings"))["data"]
    ports = {labels_of(i)[NAME]: port for i in of_kind(overlay, "Deployment") if (port := metrics_port(i))}
    expected = int(settings["MPA_METRICS_PORT"])
    assert ports == {"parity-worker": expected, "trainer-worker": expected}
    policies = {i["metadata"]["name"]: i["spec"] for i in of_kind(overlay, "NetworkPolicy")}
    for name in ports:
        (rule,) = policies[name]["ingress"]
        assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"mpa.dev/monitoring": "true"}}}]
        assert "Ingress" in policies[name]["policyTypes"]


def test_the_pod_monitor_finds_every_port_that_shows_metrics(overlay: Objects) -> None:
    monitor = yaml.safe_load((ROOT / "k8s/monitoring/pod-monitor.yaml").read_text())
    watched = {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]}
    for item in of_kind(overlay, "Deployment"):
        assert matches(monitor["spec"]["selector"]["matchLabels"], labels_of(item))
        (container,) = pod_of(item)["spec"]["containers"]
        assert {port["name"] for port in container["ports"]} & watched


def test_selectors_find_exactly_one_workload(overlay: Objects) -> None:
    pods = [labels_of(item) for item in of_kind(overlay, "Deployment", "StatefulSet")]
    selectors = [item["spec"]["selector"] for item in of_kind(overlay, "Service")]
    selectors += [
        item["spec"]["selector"]["matchLabels"]
        for item in of_kind(overlay, "Deployment", "StatefulSet", "PodDisruptionBudget")
    ]
    for selector in selectors:
        assert sum(matches(selector, labels) for labels in pods) == 1, selector


def test_service_ports_are_the_containers_and_the_settings(overlay: Objects) -> None:
    settings = next(i for i in of_kind(overlay, "ConfigMap") if i["metadata"]["name"].startswith("settings"))["data"]
    for service in of_kind(overlay, "Service"):
        name = service["metadata"]["name"]
        workload = next(
            i
            for i in of_kind(overlay, "Deployment", "StatefulSet")
            if matches(service["spec"]["selector"], labels_of(i))
        )
        ports = {
            p["name"]: p["containerPort"] for c in pod_of(workload)["spec"]["containers"] for p in c.get("ports", [])
        }
        (port,) = service["spec"]["ports"]
        assert ports[port["targetPort"]] == port["port"]
        if name == "redis":
            assert settings["MPA_REDIS_URL"] == f"redis://redis:{port['port']}/0"
        else:
            assert settings[f"MPA_{name.upper()}_PORT"] == str(port["port"])
            url = settings.get(f"MPA_{name.upper()}_URL", f"http://{name}:{port['port']}")
            assert url == f"http://{name}:{port['port']}"


def test_what_a_pod_mounts_exists(overlay: Objects) -> None:
    names = {(i["kind"], i["metadata"]["name"]) for i in overlay}
    for item in workloads(overlay):
        spec = pod_of(item)["spec"]
        volumes = {v["name"]: v for v in spec.get("volumes", [])}
        claims = {t["metadata"]["name"] for t in item["spec"].get("volumeClaimTemplates", [])}
        assert ("ServiceAccount", spec["serviceAccountName"]) in names
        assert ("PriorityClass", spec["priorityClassName"]) in names
        for container in spec["containers"]:
            mounted = {m["name"] for m in container["volumeMounts"]}
            assert mounted == set(volumes) | claims
            for source in container.get("envFrom", []):
                assert ("ConfigMap", source["configMapRef"]["name"]) in names
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in names
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in names


def secrets_of(item: dict[str, Any]) -> dict[str, bool]:
    """The Secrets that a pod mounts under /run/secrets, and whether each is optional."""
    spec, found = pod_of(item)["spec"], {}
    (container,) = spec["containers"]
    (mounted,) = [m["name"] for m in container["volumeMounts"] if m["mountPath"] == "/run/secrets"]
    (volume,) = [v for v in spec["volumes"] if v["name"] == mounted]
    sources = [s["secret"] for s in volume["projected"]["sources"]] if "projected" in volume else [volume["secret"]]
    for source in sources:
        found[source.get("name") or source["secretName"]] = source.get("optional", False)
    return found


def test_the_password_of_redis_is_required_and_only_with_those_who_call_it(overlay: Objects) -> None:
    callers = {caller for caller, target in edges() if target == "redis"}
    for item in workloads(overlay):
        name, secrets = labels_of(item)[NAME], secrets_of(item)
        assert secrets.pop("mpa-redis", None) == (False if name in {*callers, "redis"} else None), name
        assert secrets == ({} if name == "redis" else {"mpa-keys": True}), name
    for item in overlay:
        assert item["kind"] != "Secret", "made by the operator, never kept here"


def test_pods_meet_the_restricted_profile(overlay: Objects) -> None:
    for item in workloads(overlay):
        spec = pod_of(item)["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            for what in ("requests", "limits"):
                assert {"cpu", "memory"} <= set(container["resources"][what])


def test_every_deployment_has_a_budget_spreads_and_knows_its_rank(overlay: Objects) -> None:
    budgets = {i["metadata"]["name"]: i["spec"] for i in of_kind(overlay, "PodDisruptionBudget")}
    ranks = {i["metadata"]["name"]: i for i in of_kind(overlay, "PriorityClass")}
    assert ranks["mpa-serving"]["value"] > ranks["mpa-batch"]["value"]
    assert ranks["mpa-batch"]["preemptionPolicy"] == "Never"
    deployments = of_kind(overlay, "Deployment")
    assert set(budgets) == {i["metadata"]["name"] for i in deployments}
    for item in deployments:
        spec, name = pod_of(item)["spec"], item["metadata"]["name"]
        assert budgets[name]["maxUnavailable"] == 1 and matches(
            budgets[name]["selector"]["matchLabels"], labels_of(item)
        )
        (spread,) = spec["topologySpreadConstraints"]
        assert matches(spread["labelSelector"]["matchLabels"], labels_of(item))
        assert spread["topologyKey"] == "kubernetes.io/hostname"
        assert spec["priorityClassName"] == ("mpa-batch" if name.endswith("worker") else "mpa-serving")


def test_what_serves_is_probed_and_drains(overlay: Objects) -> None:
    """A start-up probe on /readyz where a model is loaded, for as long as the settings allow that to take."""
    settings = next(i for i in of_kind(overlay, "ConfigMap") if i["metadata"]["name"].startswith("settings"))["data"]
    serving = [i for i in of_kind(overlay, "Deployment") if metrics_port(i) is None]
    assert len(serving) == 4
    for item in serving:
        name, (container,) = item["metadata"]["name"], pod_of(item)["spec"]["containers"]
        paths = {kind: container[kind]["httpGet"]["path"] for kind in ("readinessProbe", "livenessProbe")}
        assert paths == {"readinessProbe": "/readyz", "livenessProbe": "/healthz"}, name
        loads = name in ("teacher", "student")
        start = container["startupProbe"]
        assert start["httpGet"]["path"] == ("/readyz" if loads else "/healthz")
        if loads:
            classes = {"teacher": TeacherSettings, "student": StudentSettings}
            field = f"{name}_ready_timeout"
            patience = settings.get(f"MPA_{field.upper()}") or getattr(classes[name](), field).total_seconds()
            assert start["periodSeconds"] * start["failureThreshold"] >= int(patience), name
        assert container["lifecycle"]["preStop"]["exec"]["command"][0] == "sleep"


def test_pods_outlive_their_drain(overlay: Objects) -> None:
    settings = next(i for i in of_kind(overlay, "ConfigMap") if i["metadata"]["name"].startswith("settings"))["data"]
    for item in of_kind(overlay, "Deployment"):
        spec = pod_of(item)["spec"]
        sleep = spec["containers"][0].get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["", "0"])
        assert spec["terminationGracePeriodSeconds"] > int(settings["MPA_SHUTDOWN_GRACE"]) + int(sleep[1])


def test_network_policies_open_the_designs_edges_and_no_others(overlay: Objects) -> None:
    policies = [i for i in of_kind(overlay, "NetworkPolicy") if i["metadata"]["name"] not in ("dns", "model-hub")]
    denied = [i for i in policies if i["spec"]["podSelector"] == {}]
    assert [i["metadata"]["name"] for i in denied] == ["default-deny"]
    assert set(denied[0]["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    assert not {"ingress", "egress"} & set(denied[0]["spec"])
    ports = {i["metadata"]["name"]: i["spec"]["ports"][0]["port"] for i in of_kind(overlay, "Service")}
    # Workers serve no requests and have no Service; only the monitoring may read their metrics.
    ports |= {labels_of(i)[NAME]: port for i in of_kind(overlay, "Deployment") if (port := metrics_port(i))}
    going, coming = set(), set()
    for item in policies:
        if item in denied:
            continue
        own = item["spec"]["podSelector"]["matchLabels"][NAME]
        for rule in item["spec"].get("egress", []):
            for peer in rule["to"]:
                target = peer["podSelector"]["matchLabels"][NAME]
                assert [p["port"] for p in rule["ports"]] == [ports[target]]
                going.add((own, target))
        for rule in item["spec"].get("ingress", []):
            assert [p["port"] for p in rule["ports"]] == [ports[own]]
            coming |= {(p["podSelector"]["matchLabels"][NAME], own) for p in rule["from"] if "podSelector" in p}
    assert going == coming == edges()


def test_policies_and_budgets_name_workloads_that_exist(overlay: Objects) -> None:
    names = {labels_of(item)[NAME] for item in workloads(overlay)}
    assert {name for edge in edges() for name in edge} <= names


def test_the_demo_needs_no_scaler() -> None:
    objects = build("cpu-demo")
    assert not [i for i in objects if i["kind"] in ("ScaledObject", "TriggerAuthentication")]
    assert all(i["spec"]["replicas"] >= 1 for i in of_kind(objects, "Deployment"))


@pytest.mark.parametrize("name", ["gpu", "gpu-spot"])
def test_gpu_pods_ask_for_one_gpu_and_a_cuda_image(name: str) -> None:
    for item in of_kind(build(name), "Deployment"):
        (container,) = pod_of(item)["spec"]["containers"]
        on_gpu = item["metadata"]["name"] in ("teacher", "student", "trainer-worker")
        assert ("nvidia.com/gpu" in container["resources"]["limits"]) is on_gpu
        assert container["image"].endswith("-cuda") is on_gpu


def test_batch_specs_are_job_specs() -> None:
    text = (ROOT / "k8s/batch/spec.yaml").read_text()
    JobSpec.model_validate(yaml.safe_load(text))


def test_the_cronjob_runs_the_job() -> None:
    job, cron = (yaml.safe_load((ROOT / f"k8s/batch/{name}.yaml").read_text()) for name in ("job", "cronjob"))
    assert cron["spec"]["jobTemplate"]["spec"] == job["spec"]


def test_images_are_pinned(overlay: Objects) -> None:
    for item in workloads(overlay):
        for container in pod_of(item)["spec"]["containers"]:
            assert re.fullmatch(r"[a-z-]+:\d+\.\d+\.\d+(-[a-z]+)?", container["image"]), container["image"]
