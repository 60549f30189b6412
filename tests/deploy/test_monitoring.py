"""The dashboard and the alerts use metrics that exist, and every alert is tested and documented."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from services.parity.app import make_app as parity_app
from services.parity.metrics import JobMetrics, WorkerMetrics
from services.student.engines.metrics import EngineMetrics
from services.student.rollout.canary.routing import Router
from services.student.tap import TrafficTap
from services.teacher.app import make_app as teacher_app
from services.trainer.app import make_app as trainer_app
from services.trainer.metrics import TrainerMetrics
from shared.http import create_app
from shared.settings import ParitySettings, StudentSettings, TeacherSettings, TrainerSettings
from shared.store import Store
from shared.telemetry.metrics import make_registry
from tests.deploy.conftest import ROOT

ALERTS = ROOT / "deploy/prometheus/alerts.yaml"
ALERT_TESTS = ROOT / "deploy/prometheus/alerts.test.yaml"
DASHBOARD = ROOT / "deploy/grafana/mpa.json"
RUNBOOK = ROOT / "docs/operations.md"
NAME = re.compile(r"\b(?:mpa|process|vllm)[_:][a-z0-9_:]+|\bup\b")
LABELS = re.compile(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}")
# Metrics of Prometheus itself and of GPUs. Those of vLLM are checked against its source.
FOREIGN = {"up", "mpa_gpu_memory_bytes"}


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return json.loads(DASHBOARD.read_text())["panels"]


def queries() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())
    yield from (target["expr"] for panel in panels() for target in panel.get("targets", []))


def registries(tmp_path: Path) -> tuple[CollectorRegistry, ...]:
    """The metrics of all processes, from the classes that define them. For running ones see test_one_trace.py."""
    worker = make_registry()
    WorkerMetrics(worker)
    TrainerMetrics(worker)
    student = StudentSettings()
    app = create_app("student", student, lifespan=None, ready=None)  # type: ignore[arg-type]
    metrics: CollectorRegistry = app.state.metrics_registry
    EngineMetrics(metrics)
    Router(lambda: None, metrics)  # type: ignore[arg-type,return-value]
    TrafficTap(student, Store(tmp_path.as_uri()), metrics)
    parity = parity_app(ParitySettings())
    JobMetrics(parity.state.metrics_registry)
    others = (parity, app, teacher_app(TeacherSettings()), trainer_app(TrainerSettings()))
    for one in others:
        one.build_middleware_stack()
    return (worker, *(one.state.metrics_registry for one in others))


def kinds_of(tmp_path: Path) -> dict[str, str]:
    """The kind of each metric: counter, gauge, histogram …"""
    return {family.name: family.type for registry in registries(tmp_path) for family in registry.collect()}


def families(tmp_path: Path) -> dict[str, set[str]]:
    """All samples that the processes can report, and their labels."""
    found: dict[str, set[str]] = {}
    for registry in registries(tmp_path):
        for collector, names in registry._collector_to_names.items():
            labels = set(getattr(collector, "_labelnames", ()))
            found |= {name: labels | ({"le"} if name.endswith("_bucket") else set()) for name in names}
        # Some collectors name their samples only when they are read.
        samples = (sample for family in registry.collect() for sample in family.samples)
        found |= {sample.name: set(sample.labels) for sample in samples if sample.name not in found}
    return found


def test_every_metric_that_is_asked_for_exists_with_its_labels(tmp_path: Path) -> None:
    known = families(tmp_path)
    asked = {name for query in queries() for name in NAME.findall(query)}
    ours = {name for name in asked if not name.startswith("vllm:")} - FOREIGN
    assert ours <= set(known), sorted(ours - set(known))
    for query in queries():
        for name, chosen in LABELS.findall(query):
            given = set(re.findall(r"(\w+)\s*[=!]", chosen)) - {"job", "instance"}
            assert name in FOREIGN or given <= known[name], (name, chosen)


def test_every_metric_of_ours_is_on_the_dashboard(tmp_path: Path) -> None:
    shown = " ".join(target["expr"] for panel in panels() for target in panel.get("targets", []))
    named = set(NAME.findall(shown))
    bases = {re.sub(r"_(total|created|bucket|count|sum)$", "", name) for name in families(tmp_path)}
    seen = {re.sub(r"_(total|bucket|count|sum)$", "", name) for name in named}
    assert {base for base in bases if base.startswith("mpa_")} <= seen


def test_names_follow_prometheus_conventions(tmp_path: Path) -> None:
    """https://prometheus.io/docs/practices/naming: one prefix, base units, and what is counted ends in ``_total``."""
    kinds = {re.sub(r"_(total|created)$", "", name): kind for name, kind in kinds_of(tmp_path).items()}
    for name, kind in kinds.items():
        assert re.fullmatch(r"(mpa|process)_[a-z0-9_]*[a-z0-9]", name), name
        assert not re.search(r"_(ms|millis\w*|us|minutes?|hours?|[kmg]i?b|percent|ratio_percent)(_|$)", name), name
        if not name.startswith("process_"):
            assert not re.search(r"_(total|count|sum|bucket|info)$", name), f"{name}: the suffix is Prometheus' own"
            assert kind != "histogram" or name.endswith(("_seconds", "_bytes", "_answers")), f"{name}: of what unit?"
    for names in families(tmp_path).values():
        assert not names & {"job", "instance"}, "labels that Prometheus sets itself"


def test_vllm_has_the_metrics_that_are_asked_of_it() -> None:
    asked = {name for query in queries() for name in NAME.findall(query) if name.startswith("vllm:")}
    found = find_spec("vllm")
    if found is None or found.origin is None:
        pytest.fail("vLLM is not installed: make setup installs it")
    source = (Path(found.origin).parent / "v1/metrics/loggers.py").read_text()
    assert asked and all(f'"{name}"' in source for name in asked)


def test_every_alert_has_a_runbook_section_and_every_section_an_alert() -> None:
    sections = dict(re.findall(r"^### (Mpa\w+)\n(.*?)(?=^##|\Z)", RUNBOOK.read_text(), flags=re.MULTILINE | re.DOTALL))
    assert set(sections) == {rule["alert"] for rule in rules()}
    for name, text in sections.items():
        assert all(f"**{part}**" in text for part in ("Symptom.", "See it.", "Do.")), name
    for rule in rules():
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"


def test_every_alert_is_tested_both_ways() -> None:
    tested: dict[str, set[bool]] = {}
    for test in yaml.safe_load(ALERT_TESTS.read_text())["tests"]:
        for one in test["alert_rule_test"]:
            tested.setdefault(one["alertname"], set()).add(bool(one["exp_alerts"]))
    assert tested == {rule["alert"]: {True, False} for rule in rules()}


@pytest.fixture
def promtool() -> Callable[..., None]:
    """Prometheus' own tool. Without it the test is skipped, and only the structure of the rules is checked."""
    found = shutil.which("promtool", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if found is None:
        pytest.skip("no promtool, so nobody evaluates PromQL here: scripts/promtool.sh gets it where apt does")

    def run(*arguments: str) -> None:
        done = subprocess.run([found, *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr

    return run


def test_every_alert_fires_and_is_silent_as_its_tests_say(promtool: Callable[..., None]) -> None:
    promtool("check", "rules", str(ALERTS))
    promtool("test", "rules", str(ALERT_TESTS))


def test_every_query_of_the_dashboard_is_promql(promtool: Callable[..., None], tmp_path: Path) -> None:
    shown = sorted({target["expr"] for panel in panels() for target in panel.get("targets", [])})
    recorded = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(shown)]
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    promtool("check", "rules", str(tmp_path / "panels.yaml"))


def test_the_rules_have_the_structure_that_prometheus_documents() -> None:
    for rule in rules():
        assert set(rule) - {"for"} == {"alert", "expr", "labels", "annotations"}
        assert re.fullmatch(r"\d+[smhd]", rule.get("for", "1m"))
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert all(rule["expr"].count(a) == rule["expr"].count(b) for a, b in ("()", "{}", "[]"))


def test_the_dashboard_can_be_imported() -> None:
    board = json.loads(DASHBOARD.read_text())
    assert board["uid"] == "mpa" and board["schemaVersion"] >= 36
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        grid = panel["gridPos"]
        cells = {
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken and grid["x"] + grid["w"] <= 24, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["targets"] and panel["fieldConfig"]["defaults"]["unit"]
            assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
