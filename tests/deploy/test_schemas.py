"""Strict schemas: a misspelt or misplaced field fails here. A warning is a failure."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest

# Older and newest version that clusters run; `unhealthyPodEvictionPolicy` and `podFailurePolicy` need the first.
VERSIONS = ("1.31", "1.37")
CUSTOM = {"ScaledObject", "TriggerAuthentication", "PodMonitor"}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(overlay: list[dict[str, Any]], version: str) -> None:
    for item in overlay:
        if item["kind"] in CUSTOM:
            continue
        kubernetes_validate.validate(item, version, strict=True)


def test_scaled_objects_have_only_fields_that_keda_knows(overlay: list[dict[str, Any]]) -> None:
    """KEDA's schema is not part of Kubernetes: these are the fields used of its reference."""
    known = {
        "scaleTargetRef",
        "minReplicaCount",
        "maxReplicaCount",
        "pollingInterval",
        "cooldownPeriod",
        "advanced",
        "triggers",
    }
    fields = {
        "redis": {"address", "listName", "listLength"},
        "prometheus": {"serverAddress", "query", "threshold", "ignoreNullValues"},
    }
    for item in overlay:
        if item["kind"] == "TriggerAuthentication":
            assert set(item["spec"]) == {"secretTargetRef"}
            assert all(set(source) == {"parameter", "name", "key"} for source in item["spec"]["secretTargetRef"])
        if item["kind"] == "ScaledObject":
            assert set(item["spec"]) <= known
            behavior = item["spec"].get("advanced", {}).get("horizontalPodAutoscalerConfig", {}).get("behavior", {})
            scaler = {"maxReplicas": 2, "scaleTargetRef": {"kind": "Deployment", "name": "any"}, "behavior": behavior}
            autoscaler = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "spec": scaler}
            kubernetes_validate.validate({**autoscaler, "metadata": {"name": "any"}}, VERSIONS[0], strict=True)
            for trigger in item["spec"]["triggers"]:
                assert set(trigger) - {"metricType", "authenticationRef"} == {"type", "metadata"}
                assert set(trigger.get("authenticationRef", {"name": ""})) == {"name"}
                assert set(trigger["metadata"]) == fields[trigger["type"]]
                assert all(isinstance(value, str) for value in trigger["metadata"].values())
