"""The Job that trains on several nodes: its parts fit together, and it may do what a trainer-worker may do."""

from __future__ import annotations

import re
from typing import Any

import kubernetes_validate
import pytest

from services.trainer import nodes
from tests.deploy.conftest import ROOT, build, kustomize, of_kind, pod_of
from tests.deploy.test_kubernetes import NAME, edges, secrets_of

Objects = list[dict[str, Any]]


@pytest.fixture
def objects() -> Objects:
    return build("gpu", "training")


@pytest.fixture
def job(objects: Objects) -> dict[str, Any]:
    (found,) = [item for item in of_kind(objects, "Job") if item["metadata"]["name"] == "torchrun"]
    return found


def own(objects: Objects) -> Objects:
    """The objects that the component adds."""
    names = {(item["kind"], item["metadata"]["name"]) for item in build("gpu")}
    return [item for item in objects if (item["kind"], item["metadata"]["name"]) not in names]


def test_the_endpoint_is_worker_zero_under_the_headless_service(objects: Objects, job: dict[str, Any]) -> None:
    service = next(i for i in of_kind(objects, "Service") if i["metadata"]["name"] == "rendezvous")
    pod = job["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    arguments = dict(a.split("=", 1) for a in container["command"] if "=" in a)
    host, port = arguments["--rdzv-endpoint"].split(":")
    assert host == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert int(port) == service["spec"]["ports"][0]["port"] == container["ports"][0]["containerPort"]
    assert pod["spec"]["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None" and service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == int(arguments["--nnodes"]) > 1
    assert job["spec"]["completionMode"] == "Indexed"


def test_it_trains_the_job_that_the_overlay_names(objects: Objects, job: dict[str, Any]) -> None:
    (container,) = pod_of(job)["spec"]["containers"]
    assert container["command"][-3:] == ["-m", nodes.__name__, "$(JOB)"]
    given = {entry["name"]: entry for entry in container["env"]}
    source = given.pop("JOB")["valueFrom"]["configMapKeyRef"]
    maps = {item["metadata"]["name"]: item["data"] for item in of_kind(objects, "ConfigMap")}
    assert set(maps[source["name"]]) == {source["key"]}
    # without it the code refuses to start
    assert given == {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": {"name": "TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "value": "1"}}
    assert "--max-restarts=0" in container["command"]


def test_it_has_what_a_trainer_worker_has() -> None:
    objects = build("cpu-demo", "training")
    worker = next(i for i in of_kind(objects, "Deployment") if i["metadata"]["name"] == "trainer-worker")
    job = next(i for i in of_kind(objects, "Job") if i["metadata"]["name"] == "torchrun")
    ours, theirs = pod_of(job)["spec"], pod_of(worker)["spec"]
    assert ours["volumes"] == theirs["volumes"] and secrets_of(job) == secrets_of(worker)
    assert ours["securityContext"] == theirs["securityContext"]
    for field in ("image", "envFrom", "securityContext", "resources", "volumeMounts"):
        assert ours["containers"][0][field] == theirs["containers"][0][field], field
    names = {(item["kind"], item["metadata"]["name"]) for item in objects}
    assert ("ServiceAccount", ours["serviceAccountName"]) in names
    assert ("PriorityClass", ours["priorityClassName"]) in names


def test_it_may_call_whom_a_trainer_worker_may_and_be_called_by_itself_alone(objects: Objects) -> None:
    ports = {i["metadata"]["name"]: i["spec"]["ports"][0]["port"] for i in of_kind(objects, "Service")}
    going, coming = {}, {}
    for item in of_kind(own(objects), "NetworkPolicy"):
        target = item["spec"]["podSelector"]["matchLabels"][NAME]
        for rule in item["spec"].get("egress", []):
            (peer,) = rule["to"]
            going[target, peer["podSelector"]["matchLabels"][NAME]] = [p["port"] for p in rule.get("ports", [])]
        for rule in item["spec"].get("ingress", []):
            (peer,) = rule["from"]
            coming[peer["podSelector"]["matchLabels"][NAME], target] = [p["port"] for p in rule.get("ports", [])]
    allowed = {target for caller, target in edges() if caller == "trainer-worker"}
    assert going == coming
    assert going == {("torchrun", "torchrun"): [], **{("torchrun", name): [ports[name]] for name in allowed}}


@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_it_is_valid(objects: Objects, version: str) -> None:
    added = own(objects)
    assert {"Job", "Service", "ServiceAccount", "NetworkPolicy", "ConfigMap"} == {item["kind"] for item in added}
    for item in added:
        kubernetes_validate.validate(item, version, strict=True)


def test_the_overlays_in_the_documentation_build_and_name_the_job() -> None:
    texts = re.findall(r"```yaml\n(namespace: .*?)```", (ROOT / "docs/deploy.md").read_text(), flags=re.DOTALL)
    built = [kustomize(text) for text in texts]
    assert len(built) == 2
    for item in (item for objects in built for item in objects if item["kind"] not in ("Namespace", "PriorityClass")):
        assert item["metadata"]["namespace"] == "mpa", (item["kind"], item["metadata"]["name"])
    jobs = {item["metadata"]["name"]: item for objects in built for item in objects if item["kind"] == "Job"}
    assert set(jobs) == {"align", "torchrun"}
    (container,) = pod_of(jobs["torchrun"])["spec"]["containers"]
    assert container["image"].endswith("-cuda") and container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    named = container["env"][0]["valueFrom"]["configMapKeyRef"]["name"]
    (chosen,) = [i for objects in built for i in objects if i["metadata"]["name"] == named]
    assert chosen["data"]["job"] != "name-the-job"
