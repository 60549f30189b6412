"""The pod that `mpa doctor` runs in on Kubernetes: it may ask everybody, nobody asks it, and it has what it checks."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import kubernetes_validate
import pytest
import yaml

from shared.settings import ClientSettings
from tests.deploy.conftest import OVERLAYS, ROOT, kubectl, of_kind, pod_of

Objects = list[dict[str, Any]]
NAME = "app.kubernetes.io/name"
ASKED = {field.removesuffix("_url") for field in ClientSettings.model_fields if field.endswith("_url")}
"""Whose addresses the command has: the four services and Redis."""


@pytest.fixture(params=OVERLAYS, scope="module")
def objects(request: pytest.FixtureRequest) -> Objects:
    """An overlay with the component."""
    folder = ROOT / "k8s" / f".test-doctor-{request.param}"
    folder.mkdir(exist_ok=True)
    try:
        content = {"kind": "Kustomization", "namespace": "mpa", "apiVersion": "kustomize.config.k8s.io/v1beta1"}
        content |= {"resources": [f"../overlays/{request.param}"], "components": ["../doctor"]}
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
        done = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True, timeout=60)
    finally:
        shutil.rmtree(folder)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def the(objects: Objects, kind: str, name: str) -> dict[str, Any]:
    (found,) = [item for item in of_kind(objects, kind) if item["metadata"]["name"] == name]
    return found


def of_doctor(rules: list[dict[str, Any]], side: str) -> dict[str, set[int]]:
    """The pods that rules name on one side, with the ports."""
    found: dict[str, set[int]] = {}
    for rule in rules:
        for peer in rule[side]:
            if name := peer.get("podSelector", {}).get("matchLabels", {}).get(NAME):
                found.setdefault(name, set()).update(port["port"] for port in rule["ports"])
    return found


def test_it_may_ask_every_service_and_redis_at_their_ports(objects: Objects) -> None:
    ports = {item["metadata"]["name"]: {item["spec"]["ports"][0]["port"]} for item in of_kind(objects, "Service")}
    expected = {name: ports[name] for name in ASKED}
    out, coming = {}, {}
    for policy in of_kind(objects, "NetworkPolicy"):
        own = policy["spec"]["podSelector"].get("matchLabels", {}).get(NAME)
        if own == "doctor":
            out = of_doctor(policy["spec"]["egress"], "to")
            assert policy["spec"]["policyTypes"] == ["Egress"] and "ingress" not in policy["spec"]
        elif "doctor" in (asking := of_doctor(policy["spec"].get("ingress", []), "from")):
            assert "Ingress" in policy["spec"]["policyTypes"]
            coming[own] = asking["doctor"]
    assert out == coming == expected


def test_no_service_may_ask_all_the_others(objects: Objects) -> None:
    """So the command has to run in this pod: in any other it would call broken what only a policy hides."""
    for policy in of_kind(objects, "NetworkPolicy"):
        own = policy["spec"]["podSelector"].get("matchLabels", {}).get(NAME)
        if own != "doctor":
            assert not set(of_doctor(policy["spec"].get("egress", []), "to")) >= ASKED - {own}, own
    text = (ROOT / "docs/doctor.md").read_text()
    assert "create job --from=cronjob/doctor" in text and "components: [../doctor]" in text
    assert "kubectl -n mpa exec" not in text


def test_it_has_the_settings_the_keys_and_the_store_of_the_services(objects: Objects) -> None:
    cron, parity = the(objects, "CronJob", "doctor"), the(objects, "Deployment", "parity")
    assert cron["spec"]["suspend"] is True, "it runs when somebody asks for it"
    (own,), (service,) = (pod_of(item)["spec"]["containers"] for item in (cron, parity))
    assert own["command"] == ["python", "-m", "services.cli", "doctor"], "with nothing skipped"
    assert (own["image"], own["envFrom"]) == (service["image"], service["envFrom"])
    mine, theirs = (pod_of(item)["spec"]["volumes"] for item in (cron, parity))
    for name in ("secrets", "store"):
        assert [v for v in mine if v["name"] == name] == [v for v in theirs if v["name"] == name]
    assert {m["name"] for m in own["volumeMounts"]} == {v["name"] for v in mine} == {"secrets", "data", "tmp", "store"}


def test_it_is_valid_and_restricted(objects: Objects) -> None:
    for item in objects:
        if "doctor" in item["metadata"]["name"]:
            for version in ("1.31", "1.37"):
                kubernetes_validate.validate(item, version, strict=True)
    spec = pod_of(the(objects, "CronJob", "doctor"))["spec"]
    assert spec["securityContext"] == pod_of(the(objects, "Deployment", "parity"))["spec"]["securityContext"]
    assert spec["automountServiceAccountToken"] is False
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} <= set(container["resources"]["limits"])
    the(objects, "ServiceAccount", spec["serviceAccountName"])
    the(objects, "PriorityClass", spec["priorityClassName"])
