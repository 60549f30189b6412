"""The manifests as a cluster would get them, and the compose file as its engine would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
OVERLAYS = ("cpu-demo", "gpu", "gpu-spot")
WITH_BATCH = """
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: mpa
resources: [../overlays/{overlay}]
components: [../batch, ../monitoring{more}]
"""


def kubectl() -> str:
    """The path of kubectl. Without it the tests fail; none is skipped."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    found = shutil.which("kubectl", path=path)
    assert found, "these tests need kubectl 1.27 or newer: scripts/kubectl.sh gets it"
    return found


@cache
def build(overlay: str, more: str = "") -> list[dict[str, Any]]:
    """The objects of an overlay with the batch component and one more."""
    return kustomize(WITH_BATCH.format(overlay=overlay, more=f", ../{more}" if more else ""))


def kustomize(text: str) -> list[dict[str, Any]]:
    """The objects of a kustomization in a folder beside those of the overlays."""
    folder = Path(tempfile.mkdtemp(prefix=".test-", dir=ROOT / "k8s"))
    try:
        (folder / "kustomization.yaml").write_text(text)
        done = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True, timeout=60)
    finally:
        shutil.rmtree(folder)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return build(request.param)


@pytest.fixture(scope="session")
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def of_kind(objects: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    found = [item for item in objects if item["kind"] in kinds]
    assert found, f"no {kinds} in the overlay"
    return found


def pod_of(item: dict[str, Any]) -> dict[str, Any]:
    """The pod template of a Deployment, StatefulSet, Job or CronJob."""
    spec = item["spec"]["jobTemplate"]["spec"] if item["kind"] == "CronJob" else item["spec"]
    return spec["template"]


def workloads(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return of_kind(objects, "Deployment", "StatefulSet", "Job", "CronJob")
