"""One settings file for Compose and Kubernetes: it names every setting, and nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shared import settings as module
from shared.settings import (
    SECRETS_DIR_VARIABLE,
    ClientSettings,
    CommonSettings,
    ParitySettings,
    StudentSettings,
    TeacherSettings,
    TrainerSettings,
)
from tests.deploy.conftest import ROOT, pod_of, workloads

CLASSES = (TeacherSettings, StudentSettings, ParitySettings, TrainerSettings, ClientSettings)
FILE = ROOT / "k8s/base/settings.env"
KEYS = {"MPA_API_KEY", "MPA_TEACHER_API_KEY", "MPA_REDIS_PASSWORD"}


def known() -> set[str]:
    return {f"MPA_{name.upper()}" for cls in CLASSES for name in cls.model_fields}


def lines() -> list[tuple[str, str]]:
    return re.findall(r"^(?:# )?(MPA_[A-Z_]+)=(.*)$", FILE.read_text(), flags=re.MULTILINE)


def test_the_classes_are_all_there() -> None:
    found = {c for c in vars(module).values() if isinstance(c, type) and issubclass(c, CommonSettings)}
    leaves = {c for c in found if not any(other is not c and issubclass(other, c) for other in found)}
    assert leaves == set(CLASSES)


def test_it_names_every_setting_once_and_no_other() -> None:
    names = [name for name, _ in lines()]
    assert len(names) == len(set(names))
    assert set(names) == known() - KEYS | {SECRETS_DIR_VARIABLE}


def test_its_values_are_valid_and_its_comments_are_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {cls: cls() for cls in CLASSES}
    for line in FILE.read_text().splitlines():
        if match := re.fullmatch(r"# (MPA_[A-Z_]+)=(.+)", line):
            monkeypatch.setenv(*match.groups())
    assert {cls: cls() for cls in CLASSES} == before
    for line in FILE.read_text().splitlines():
        if match := re.fullmatch(r"(MPA_[A-Z_]+)=(.*)", line):
            monkeypatch.setenv(*match.groups())
    monkeypatch.setenv(SECRETS_DIR_VARIABLE, str(tmp_path))
    assert ParitySettings().image_roots == [Path("/images")]
    assert StudentSettings().host == "0.0.0.0"
    assert TrainerSettings().store_url == "file:///store"


def test_manifests_and_compose_set_only_settings(overlay: list[dict[str, Any]], compose: dict[str, Any]) -> None:
    ours = [service for name, service in compose["services"].items() if name != "redis"]
    given = {name for service in ours for name in service.get("environment", {})}
    for item in overlay:
        if item["kind"] == "ConfigMap" and item["metadata"]["name"].startswith("settings"):
            given |= set(item["data"])
    for item in workloads(overlay):
        for container in pod_of(item)["spec"]["containers"]:
            given |= {v["name"] for v in container.get("env", []) if v["name"].startswith("MPA_")}
    assert given <= known() | {SECRETS_DIR_VARIABLE}


def test_a_file_sets_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mpa_api_key").write_text("from-the-file\n")
    (tmp_path / "mpa_teacher_api_key").write_text("")
    monkeypatch.setenv(SECRETS_DIR_VARIABLE, str(tmp_path))
    settings = ParitySettings()
    assert settings.api_key is not None and settings.api_key.get_secret_value() == "from-the-file"
    assert settings.teacher_api_key is None


def test_the_environment_wins_over_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mpa_api_key").write_text("from-the-file")
    monkeypatch.setenv(SECRETS_DIR_VARIABLE, str(tmp_path))
    monkeypatch.setenv("MPA_API_KEY", "from-the-environment")
    settings = ParitySettings()
    assert settings.api_key is not None and settings.api_key.get_secret_value() == "from-the-environment"


def test_what_is_generated_is_up_to_date() -> None:
    command = [sys.executable, ROOT / "scripts/configuration.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_setting_is_described() -> None:
    bare = {name for cls in CLASSES for name, field in cls.model_fields.items() if not field.description}
    assert not bare
