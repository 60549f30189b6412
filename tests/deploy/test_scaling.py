"""The scalers watch queues and metrics that exist, each with the target that its kind of value needs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.contracts import JobState
from shared.queue import COLLECT_QUEUE, TRAIN_QUEUE
from shared.state import COLLECT_STATES
from tests.deploy.conftest import ROOT, build, of_kind
from tests.deploy.test_monitoring import LABELS, NAME, families

Objects = list[dict[str, Any]]


@pytest.fixture(params=["gpu", "gpu-spot"])
def objects(request: pytest.FixtureRequest) -> Objects:
    return build(request.param)


def triggers(objects: Objects) -> dict[str, list[dict[str, Any]]]:
    """The triggers by the Deployment that they scale."""
    return {i["spec"]["scaleTargetRef"]["name"]: i["spec"]["triggers"] for i in of_kind(objects, "ScaledObject")}


def queries(objects: Objects) -> list[str]:
    return [t["metadata"]["query"] for found in triggers(objects).values() for t in found if t["type"] == "prometheus"]


def test_targets_exist_and_no_fixed_count_fights_the_scaler(objects: Objects) -> None:
    deployments = {i["metadata"]["name"]: i for i in of_kind(objects, "Deployment")}
    limits = {}
    for item in of_kind(objects, "ScaledObject"):
        spec = item["spec"]
        target = spec["scaleTargetRef"]["name"]
        assert "replicas" not in deployments[target]["spec"]
        limits[target] = (spec["minReplicaCount"], spec["maxReplicaCount"])
        # KEDA uses the cooldown only when it scales to zero; otherwise the autoscaler's window counts.
        assert ("cooldownPeriod" in spec) is (spec["minReplicaCount"] == 0)
    assert {target: low for target, (low, _) in limits.items()} == {
        "parity-worker": 1,
        "trainer-worker": 0,
        "teacher": 1,
        "student": 1,
    }
    assert all(high > max(low, 1) for low, high in limits.values())


def test_queues_are_ours_at_our_redis_with_its_password(objects: Objects) -> None:
    found = triggers(objects)
    watched = {
        name: [t["metadata"]["listName"] for t in found[name] if t["type"] == "redis"]
        for name in ("parity-worker", "trainer-worker")
    }
    assert watched == {"parity-worker": [COLLECT_QUEUE], "trainer-worker": [TRAIN_QUEUE]}
    service = next(i for i in of_kind(objects, "Service") if i["metadata"]["name"] == "redis")
    address = f"redis.{service['metadata']['namespace']}.svc:{service['spec']['ports'][0]['port']}"
    logins = {i["metadata"]["name"]: i["spec"]["secretTargetRef"] for i in of_kind(objects, "TriggerAuthentication")}
    for trigger in (t for one in found.values() for t in one if t["type"] == "redis"):
        assert trigger["metadata"]["address"] == address
        assert logins[trigger["authenticationRef"]["name"]] == [
            {"parameter": "password", "name": "mpa-redis", "key": "mpa_redis_password"}
        ]


def test_every_metric_exists_with_its_labels(objects: Objects, tmp_path: Path) -> None:
    known, asked = families(tmp_path), queries(objects)
    assert len(asked) == 3
    for query in asked:
        names = {name for name in NAME.findall(query) if not name.startswith("vllm:")}
        assert names <= set(known), names - set(known)
        for name, chosen in LABELS.findall(query):
            given = set(re.findall(r"(\w+)\s*[=!]", chosen))
            assert "namespace" in given, "another deployment must not scale ours"
            # the teacher and the student may both report vLLM's metrics
            assert ("app_kubernetes_io_name" in given) is name.startswith("vllm:"), query
            assert name.startswith("vllm:") or given - {"namespace"} <= known[name], (name, chosen)


def test_vllms_metrics_exist_and_tell_whose_they_are(objects: Objects) -> None:
    asked = {(name, chosen) for query in queries(objects) for name, chosen in LABELS.findall(query)}
    found = find_spec("vllm")
    assert found is not None and found.origin is not None, "vLLM is not installed: make setup installs it"
    source = (Path(found.origin).parent / "v1/metrics/loggers.py").read_text()
    pods = {i["metadata"]["name"] for i in of_kind(objects, "Deployment")}
    owners = set()
    for name, chosen in asked:
        if name.startswith("vllm:"):
            assert f'"{name.removesuffix("_bucket")}"' in source, name
            owners |= set(re.findall(r'app_kubernetes_io_name="(\w+)"', chosen))
    assert owners == {"teacher", "student"} <= pods
    # the label that Prometheus makes of the pods' own
    monitor = yaml.safe_load((ROOT / "k8s/monitoring/pod-monitor.yaml").read_text())
    assert monitor["spec"]["podTargetLabels"] == ["app.kubernetes.io/name"]


def test_trainers_stay_for_every_state_that_a_trainer_works_in(objects: Objects) -> None:
    (query,) = [t["metadata"]["query"] for t in triggers(objects)["trainer-worker"] if t["type"] == "prometheus"]
    states = re.search(r'state=~"([a-z|]+)"', query)
    assert states is not None
    theirs = {str(s) for s in JobState if not s.is_final and s not in COLLECT_STATES and s != JobState.QUEUED}
    assert set(states[1].split("|")) == theirs


def test_a_time_is_a_target_of_its_own_and_a_count_is_shared_out(objects: Objects) -> None:
    """The wait for a batch is the same however many replicas there are; what waits is divided among them."""
    kinds = {
        (target, t["type"]): t.get("metricType", "AverageValue") for target, ts in triggers(objects).items() for t in ts
    }
    assert kinds.pop(("student", "prometheus")) == "Value"
    assert set(kinds.values()) == {"AverageValue"}


OURS = 'mpa_student_queue_wait_seconds_bucket{namespace="mpa",instance="a"'
VLLMS = 'vllm:request_queue_time_seconds_bucket{namespace="mpa",app_kubernetes_io_name="student"'


@pytest.mark.parametrize(
    ("series", "seconds"),
    [
        ({OURS: (0, 90, 100)}, 0.75),  # nine in ten wait less than half a second, all less than one
        ({OURS: (0, 0, 0)}, None),  # no requests: no value
        ({OURS: (0, 0, 0), VLLMS: (0, 90, 100)}, 0.75),  # the student on vLLM batches nothing itself
        ({VLLMS.replace("student", "teacher"): (0, 90, 100)}, None),
        ({OURS.replace('"mpa"', '"other"'): (0, 90, 100)}, None),
    ],
)
def test_the_students_wait_is_what_prometheus_makes_of_it(
    series: dict[str, tuple[int, int, int]], seconds: float | None, tmp_path: Path
) -> None:
    """Checked by Prometheus' own tool if the machine has it (scripts/promtool.sh gets it)."""
    (trigger,) = triggers(build("gpu"))["student"]
    counts = {
        f'{name},le="{bound}"}}': f"0+{count}x20"
        for name, buckets in series.items()
        for bound, count in zip(("0.1", "0.5", "1"), buckets, strict=True)
    }
    counts |= {name.replace('le="1"', 'le="+Inf"'): values for name, values in counts.items() if 'le="1"' in name}
    expression = {
        "expr": f"round({trigger['metadata']['query']}, 0.01)",
        "eval_time": "4m",
        "exp_samples": [] if seconds is None else [{"labels": "{}", "value": seconds}],
    }
    test = {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in counts.items()],
        "promql_expr_test": [expression],
    }
    (tmp_path / "wait.yaml").write_text(yaml.safe_dump({"tests": [test]}))
    promtool = shutil.which("promtool", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if promtool is None:
        assert expression["expr"].count(">= 0)") == 2
        return
    done = subprocess.run(
        [promtool, "test", "rules", str(tmp_path / "wait.yaml")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
