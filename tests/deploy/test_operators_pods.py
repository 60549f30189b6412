"""The pods of `mpa doctor` and `mpa gc` on Kubernetes: what they may call, and that they have what they check."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest
import yaml

from shared.settings import ClientSettings
from tests.deploy.conftest import OVERLAYS, ROOT, kustomize, of_kind, pod_of

Objects = list[dict[str, Any]]
NAME = "app.kubernetes.io/name"
ASKED = {field.removesuffix("_url") for field in ClientSettings.model_fields if field.endswith("_url")}
"""What the command has addresses of: the four services and Redis."""


@pytest.fixture(params=OVERLAYS, scope="module")
def objects(request: pytest.FixtureRequest) -> Objects:
    """An overlay with both components."""
    content = {"kind": "Kustomization", "namespace": "mpa", "apiVersion": "kustomize.config.k8s.io/v1beta1"}
    content |= {"resources": [f"../overlays/{request.param}"], "components": ["../doctor", "../gc"]}
    return kustomize(yaml.safe_dump(content))


def the(objects: Objects, kind: str, name: str) -> dict[str, Any]:
    (found,) = [item for item in of_kind(objects, kind) if item["metadata"]["name"] == name]
    return found


def peers(rules: list[dict[str, Any]], side: str) -> dict[str, set[int]]:
    """The pods that rules name on one side, with the ports."""
    found: dict[str, set[int]] = {}
    for rule in rules:
        for peer in rule[side]:
            if name := peer.get("podSelector", {}).get("matchLabels", {}).get(NAME):
                found.setdefault(name, set()).update(port["port"] for port in rule["ports"])
    return found


def ways(objects: Objects, who: str) -> tuple[dict[str, set[int]], dict[str, set[int]]]:
    """What pods of that name may call, and which pods admit them."""
    out: dict[str, set[int]] = {}
    coming: dict[str, set[int]] = {}
    for policy in of_kind(objects, "NetworkPolicy"):
        own = policy["spec"]["podSelector"].get("matchLabels", {}).get(NAME)
        if own == who:
            out = peers(policy["spec"]["egress"], "to")
            assert policy["spec"]["policyTypes"] == ["Egress"] and "ingress" not in policy["spec"], "nobody asks it"
        elif who in (asking := peers(policy["spec"].get("ingress", []), "from")):
            assert "Ingress" in policy["spec"]["policyTypes"]
            coming[own] = asking[who]
    return out, coming


@pytest.mark.parametrize(("who", "asked"), [("doctor", ASKED), ("gc", {"redis"})])
def test_it_may_ask_whom_its_command_asks_at_their_ports(objects: Objects, who: str, asked: set[str]) -> None:
    ports = {item["metadata"]["name"]: {item["spec"]["ports"][0]["port"]} for item in of_kind(objects, "Service")}
    out, coming = ways(objects, who)
    assert out == coming == {name: ports[name] for name in asked}


def test_no_service_may_ask_all_the_others(objects: Objects) -> None:
    """So the command must run in this pod: in any other it would report as broken what a policy hides from it."""
    for policy in of_kind(objects, "NetworkPolicy"):
        own = policy["spec"]["podSelector"].get("matchLabels", {}).get(NAME)
        if own != "doctor":
            assert not set(peers(policy["spec"].get("egress", []), "to")) >= ASKED - {own}, own
    text = (ROOT / "docs/doctor.md").read_text()
    assert "create job --from=cronjob/doctor" in text and "components: [../doctor]" in text
    assert "kubectl -n mpa exec" not in text


def test_the_doctor_comes_when_asked_and_skips_nothing_and_gc_comes_by_itself(objects: Objects) -> None:
    doctor, gc = the(objects, "CronJob", "doctor"), the(objects, "CronJob", "gc")
    assert doctor["spec"]["suspend"] is True and not gc["spec"].get("suspend")
    commands = [pod_of(item)["spec"]["containers"][0]["command"][3:] for item in (doctor, gc)]
    assert commands == [["doctor"], ["gc", "--delete"]]
    assert "components: [../gc]" in (ROOT / "docs/storage.md").read_text()


@pytest.mark.parametrize("who", ["doctor", "gc"])
def test_it_has_the_settings_the_keys_and_the_store_of_the_services(objects: Objects, who: str) -> None:
    cron, parity = the(objects, "CronJob", who), the(objects, "Deployment", "parity")
    (own,), (service,) = (pod_of(item)["spec"]["containers"] for item in (cron, parity))
    assert own["command"][:3] == ["python", "-m", "services.cli"]
    assert (own["image"], own["envFrom"]) == (service["image"], service["envFrom"])
    mine, theirs = (pod_of(item)["spec"]["volumes"] for item in (cron, parity))
    for name in ("secrets", "store"):
        assert [v for v in mine if v["name"] == name] == [v for v in theirs if v["name"] == name]
    assert {m["name"] for m in own["volumeMounts"]} == {v["name"] for v in mine} == {"secrets", "data", "tmp", "store"}


@pytest.mark.parametrize("who", ["doctor", "gc"])
def test_it_is_valid_and_restricted(objects: Objects, who: str) -> None:
    for item in objects:
        if item["metadata"]["name"].split("-")[0] == who:
            for version in ("1.31", "1.37"):
                kubernetes_validate.validate(item, version, strict=True)
    spec = pod_of(the(objects, "CronJob", who))["spec"]
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
