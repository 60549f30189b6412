"""The Job for several nodes: its parts meet, and its check tells a whole group from a part of one."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.conftest import ROOT

FOLDER = ROOT / "k8s/training"


def parts() -> dict[str, dict[str, Any]]:
    return {item["kind"]: item for item in yaml.safe_load_all((FOLDER / "rendezvous.yaml").read_text())}


def test_the_endpoint_is_worker_zero_under_the_headless_service() -> None:
    job, service = parts()["Job"], parts()["Service"]
    pod = job["spec"]["template"]
    arguments = dict(a.split("=", 1) for a in pod["spec"]["containers"][0]["command"] if "=" in a)
    host, port = arguments["--rdzv-endpoint"].split(":")
    assert host == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert int(port) == service["spec"]["ports"][0]["port"]
    assert pod["spec"]["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None" and service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    nodes = int(arguments["--nnodes"])
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == nodes
    assert job["spec"]["completionMode"] == "Indexed"
    assert pod["spec"]["containers"][0]["env"] == [{"name": "EXPECTED_WORKERS", "value": str(nodes)}]


@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_it_is_valid(version: str) -> None:
    for item in parts().values():
        kubernetes_validate.validate(item, version, strict=True)


@pytest.mark.slow
@pytest.mark.parametrize(("expected", "code"), [("2", 0), ("3", 1)])
def test_two_real_workers_meet(expected: str, code: int, free_port: int) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=1", "--nproc-per-node=2"]
    command += ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{free_port}", str(ROOT / "k8s/base/check.py")]
    environment = {**os.environ, "EXPECTED_WORKERS": expected, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode != 0) == bool(code), done.stderr
    assert f"2 of {expected} workers took part" in done.stdout
