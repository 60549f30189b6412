"""What a schema cannot say about the manifests: that names, ports, selectors and routes meet."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from shared.contracts import JobSpec
from shared.queue import COLLECT_QUEUE, TRAIN_QUEUE
from tests.deploy.conftest import ROOT, build, of_kind, pod_of, workloads

Objects = list[dict[str, Any]]
# Who calls whom: docs/design.md. The student follows Redis' word of a new checkpoint.
EDGES = {
    ("student", "redis"),
    ("parity", "redis"),
    ("parity", "teacher"),
    ("parity", "student"),
    ("parity-worker", "redis"),
    ("parity-worker", "teacher"),
    ("parity-worker", "student"),
    ("trainer", "redis"),
    ("trainer-worker", "redis"),
    ("trainer-worker", "teacher"),
    ("trainer-worker", "student"),
    ("batch", "parity"),
}
NAME = "app.kubernetes.io/name"


def matches(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return bool(selector) and selector.items() <= labels.items()


def labels_of(item: dict[str, Any]) -> dict[str, str]:
    return pod_of(item)["metadata"]["labels"]


def metrics_port(item: dict[str, Any]) -> int | None:
    """The port of a worker's metrics; None for what is no worker."""
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
            if "secret" in volume:
                assert volume["secret"]["optional"] is True, "a secret is made by the operator, or not at all"


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
    # Workers serve nobody, so have no Service; only the monitoring may ask for their metrics.
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
    assert going == coming == EDGES


def test_policies_and_budgets_name_workloads_that_exist(overlay: Objects) -> None:
    names = {labels_of(item)[NAME] for item in workloads(overlay)}
    assert {name for edge in EDGES for name in edge} <= names


@pytest.mark.parametrize("name", ["gpu", "gpu-spot"])
def test_scalers_watch_real_queues_and_targets(name: str) -> None:
    objects = build(name)
    deployments = {i["metadata"]["name"]: i for i in of_kind(objects, "Deployment")}
    watched = {}
    for item in of_kind(objects, "ScaledObject"):
        target = item["spec"]["scaleTargetRef"]["name"]
        assert "replicas" not in deployments[target]["spec"], "a scaler and a fixed count would fight"
        watched[target] = [t["metadata"].get("listName") or t["metadata"]["query"] for t in item["spec"]["triggers"]]
    assert watched["parity-worker"] == [COLLECT_QUEUE]
    assert watched["trainer-worker"] == [TRAIN_QUEUE, "unacked"]
    assert "vllm:num_requests_waiting" in watched["teacher"][0]
    assert "mpa_student_http_request_seconds" in watched["student"][0]
    assert {i["spec"]["minReplicaCount"] for i in of_kind(objects, "ScaledObject")} == {0, 1}


def test_the_demo_needs_no_scaler() -> None:
    objects = build("cpu-demo")
    assert not [i for i in objects if i["kind"] == "ScaledObject"]
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
