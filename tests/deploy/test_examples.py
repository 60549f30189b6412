"""The examples for Kueue and JobSet: their parts fit together, and fit the manifests that they extend."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from typing import Any

import kubernetes_validate
import pytest
import yaml

from shared.contracts import JobSpec
from tests.deploy.conftest import ROOT, kustomize

FOLDER = ROOT / "k8s/examples"
QUEUE = "kueue.x-k8s.io/queue-name"
TOGETHER = """
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: mpa
resources: [../overlays/gpu]
components: [../batch, ../training, ../examples]
"""
# The fields used of their references; their schemas are not part of those of Kubernetes.
JOBSET = {"suspend", "network", "failurePolicy", "successPolicy", "ttlSecondsAfterFinished", "replicatedJobs"}
CLUSTER_QUEUE = {"namespaceSelector", "queueingStrategy", "preemption", "resourceGroups"}


def objects(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def one(name: str, kind: str) -> dict[str, Any]:
    (found,) = [item for item in objects(name) if item["kind"] == kind]
    return found


@cache
def built() -> list[dict[str, Any]]:
    """The component on an overlay with the two components that it extends: no name is used twice."""
    return kustomize(TOGETHER)


def test_what_waits_names_a_queue_that_has_a_quota_for_it() -> None:
    local, cluster, flavor = (one("queues.yaml", kind) for kind in ("LocalQueue", "ClusterQueue", "ResourceFlavor"))
    assert local["spec"]["clusterQueue"] == cluster["metadata"]["name"]
    assert local["metadata"]["namespace"] == built()[0]["metadata"].get("namespace", "mpa") == "mpa"
    selected = cluster["spec"]["namespaceSelector"]["matchLabels"]
    assert selected == {"kubernetes.io/metadata.name": "mpa"}
    assert set(cluster["spec"]) <= CLUSTER_QUEUE
    (group,) = cluster["spec"]["resourceGroups"]
    (given,) = group["flavors"]
    assert given["name"] == flavor["metadata"]["name"]
    assert {item["name"] for item in given["resources"]} == set(group["coveredResources"])
    for item in (one("batch.yaml", "Job"), one("training.yaml", "JobSet")):
        assert item["metadata"]["labels"][QUEUE] == local["metadata"]["name"]
        assert item["spec"]["suspend"] is True  # Kueue lets it start
    for pod in (one("batch.yaml", "Job")["spec"]["template"], job()["template"]):
        for container in pod["spec"]["containers"]:
            assert set(container["resources"]["requests"]) <= set(group["coveredResources"])


def job() -> dict[str, Any]:
    (workers,) = one("training.yaml", "JobSet")["spec"]["replicatedJobs"]
    return workers["template"]["spec"]


def test_the_endpoint_is_the_first_worker_as_a_jobset_names_it() -> None:
    found = one("training.yaml", "JobSet")
    assert set(found["spec"]) <= JOBSET
    network, name = found["spec"]["network"], found["metadata"]["name"]
    assert network["enableDNSHostnames"] is True and network["publishNotReadyAddresses"] is True
    (workers,) = found["spec"]["replicatedJobs"]
    container = job()["template"]["spec"]["containers"][0]
    arguments = dict(a.split("=", 1) for a in container["command"] if "=" in a)
    host, port = arguments["--rdzv-endpoint"].split(":")
    # <jobset>-<replicated job>-<job index>-<pod index>.<subdomain>
    assert host == f"{name}-{workers['name']}-0-0.{network['subdomain']}"
    assert int(port) == container["ports"][0]["containerPort"]
    nodes = int(arguments["--nnodes"])
    assert job()["completions"] == job()["parallelism"] == nodes and workers["replicas"] == 1
    assert job()["completionMode"] == "Indexed" and job()["backoffLimit"] == 0
    assert container["env"] == [{"name": "EXPECTED_WORKERS", "value": str(nodes)}]
    policy = one("training.yaml", "NetworkPolicy")["spec"]["podSelector"]["matchLabels"]
    assert policy.items() <= job()["template"]["metadata"]["labels"].items()


def test_the_queued_job_is_the_batch_job() -> None:
    """They differ only in what queueing needs, so that neither can become outdated."""
    queued = one("batch.yaml", "Job")
    (plain,) = yaml.safe_load_all((ROOT / "k8s/batch/job.yaml").read_text())
    del queued["spec"]["suspend"], queued["metadata"]["labels"][QUEUE]
    queued["metadata"]["name"] = plain["metadata"]["name"]
    pod = queued["spec"]["template"]["spec"]
    pod["serviceAccountName"] = "batch"
    pod["volumes"][0]["configMap"]["name"] = "align-spec"
    assert queued == plain
    JobSpec.model_validate(yaml.safe_load((FOLDER / "spec.yaml").read_text()))


def test_the_component_builds_with_all_it_refers_to() -> None:
    found = {(item["kind"], item["metadata"]["name"]) for item in built()}
    assert {("Job", "align-queued"), ("JobSet", "training"), ("Job", "align"), ("Job", "torchrun")} <= found
    maps = {
        name: item["data"] for item in built() if item["kind"] == "ConfigMap" for name in [item["metadata"]["name"]]
    }
    jobset = next(item for item in built() if item["kind"] == "JobSet")
    pod = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    # kustomize does not know JobSets: without jobset-fields.yaml the generated names would not reach it.
    mounted = pod["volumes"][0]["configMap"]["name"]
    assert maps[mounted] == {"check.py": (FOLDER / "check.py").read_text()}
    assert ("ServiceAccount", pod["serviceAccountName"]) in found
    assert ("PriorityClass", pod["priorityClassName"]) in found
    torchrun = next(item for item in built() if (item["kind"], item["metadata"]["name"]) == ("Job", "torchrun"))
    image = torchrun["spec"]["template"]["spec"]["containers"][0]["image"]
    assert pod["containers"][0]["image"] == image


@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_what_kubernetes_knows_is_valid(version: str) -> None:
    for item in (*objects("batch.yaml"), *objects("training.yaml")):
        if item["kind"] != "JobSet":
            kubernetes_validate.validate(item, version, strict=True)
    as_job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "workers"}, "spec": job()}
    kubernetes_validate.validate(as_job, version, strict=True)


@pytest.mark.slow
@pytest.mark.parametrize(("expected", "code"), [("2", 0), ("3", 1)])
def test_the_check_tells_a_whole_group_from_a_part_of_one(expected: str, code: int, free_port: int) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=1", "--nproc-per-node=2"]
    command += ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{free_port}", str(FOLDER / "check.py")]
    environment = {**os.environ, "EXPECTED_WORKERS": expected, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode != 0) == bool(code), done.stderr
    assert f"2 of {expected} workers took part" in done.stdout
