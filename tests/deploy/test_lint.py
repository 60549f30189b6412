"""Linters find nothing wrong in the Dockerfiles and the compose file. A missing tool is a failure."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.conftest import ROOT


def tool(name: str) -> str:
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert found, f"these tests need {name}: make setup installs it"
    return found


def compose(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [tool("docker-compose"), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("name", ["teacher", "student", "parity", "trainer"])
def test_hadolint_is_content(name: str) -> None:
    command = [tool("hadolint"), f"services/{name}/Dockerfile"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout


@pytest.mark.parametrize(
    ("arguments", "models"),
    [
        ((), {"teacher", "student", "trainer-worker"}),
        (("--profile", "gpu"), {"teacher-gpu", "student-gpu", "trainer-worker-gpu"}),
    ],
)
def test_each_profile_is_a_whole_system(arguments: tuple[str, ...], models: set[str]) -> None:
    done = compose(*arguments, "config", "--format", "json")
    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"]
    assert set(services) == {"redis", "parity", "parity-worker", "trainer"} | models
    # A scaled service must not publish a port: its second replica would find it in use.
    workers = [service for name, service in services.items() if "worker" in name]
    assert all("ports" not in service and service["healthcheck"]["disable"] for service in workers)
