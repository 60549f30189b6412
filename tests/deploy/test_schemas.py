"""Strict schemas: a misspelt or misplaced field fails here. A warning is a failure."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest

# Older and newest version that clusters run; `unhealthyPodEvictionPolicy` and `podFailurePolicy` need the first.
VERSIONS = ("1.31", "1.37")
CUSTOM = {"ScaledObject", "PodMonitor"}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(overlay: list[dict[str, Any]], version: str) -> None:
    for item in overlay:
        if item["kind"] in CUSTOM:
            continue
        kubernetes_validate.validate(item, version, strict=True)


def test_scaled_objects_have_only_fields_that_keda_knows(overlay: list[dict[str, Any]]) -> None:
    """KEDA's schema is no part of Kubernetes': these are the fields of its reference that we use."""
    known = {"scaleTargetRef", "minReplicaCount", "maxReplicaCount", "pollingInterval", "cooldownPeriod", "triggers"}
    fields = {
        "redis": {"address", "listName", "listLength"},
        "prometheus": {"serverAddress", "query", "threshold", "ignoreNullValues"},
    }
    for item in overlay:
        if item["kind"] == "ScaledObject":
            assert set(item["spec"]) <= known
            for trigger in item["spec"]["triggers"]:
                assert set(trigger) == {"type", "metadata"}
                assert set(trigger["metadata"]) == fields[trigger["type"]]
                assert all(isinstance(value, str) for value in trigger["metadata"].values())
