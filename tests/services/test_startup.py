"""Every process reports all its bad settings before it does anything else."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

PROCESSES = (
    "services.teacher",
    "services.student",
    "services.parity",
    "services.parity.worker",
    "services.trainer",
    "services.trainer.worker",
    "services",
)
FOR_ALL = {
    "MPA_LOG_LEVEL": "LOUD",
    "MPA_REDIS_URL": "localhost",
    "MPA_STORE": "ftpx://bucket",
    "MPA_TORCH_THREADS": "0",
    "MPA_SECRETS_DIR": "/no/such/folder",
}
FOR_SOME = {
    "MPA_TEACHER_PORT": (("services.teacher", "services"), "99999"),
    "MPA_STUDENT_SWAP_TIMEOUT": (("services.student", "services.trainer", "services.trainer.worker", "services"), "0"),
    "MPA_TEACHER_URL": (tuple(p for p in PROCESSES if "parity" in p or "trainer" in p or p == "services"), "teacher:1"),
    "MPA_TASKS_FILE": (tuple(p for p in PROCESSES if "parity" in p or "trainer" in p or p == "services"), "/no/file"),
    "MPA_LEASE": (tuple(p for p in PROCESSES if "parity" in p or "trainer" in p or p == "services"), "-1"),
}


def end_of(module: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=60)


@pytest.mark.slow
def test_all_problems_are_said_at_once() -> None:
    bad = FOR_ALL | {name: value for name, (_, value) in FOR_SOME.items()}
    with ThreadPoolExecutor(2) as pool:
        ended = dict(zip(PROCESSES, pool.map(lambda module: end_of(module, bad), PROCESSES), strict=True))
    for module, done in ended.items():
        expected = {*FOR_ALL, *(name for name, (modules, _) in FOR_SOME.items() if module in modules)}
        said = {line.split(":")[0].strip() for line in done.stderr.splitlines() if line.startswith("  MPA_")}
        assert (module, done.returncode, said) == (module, 2, expected)
        assert f"{len(expected)} settings are not valid" in done.stderr
        assert "Traceback" not in done.stderr and "Warning" not in done.stderr


@pytest.mark.slow
def test_what_only_a_worker_can_tell_is_said_too(tmp_path: Path) -> None:
    (tmp_path / "tasks.yaml").write_text("tasks: nothing")
    environment = {
        "MPA_TASKS_FILE": str(tmp_path / "tasks.yaml"),
        "MPA_TRAIN_REPORT_TO": '["wandb"]',
        "MPA_TRAIN_ACCELERATE_CONFIG": str(tmp_path / "none.yaml"),
    }
    done = end_of("services.trainer.worker", environment)
    assert done.returncode == 2 and "3 settings are not valid" in done.stderr, done.stderr
    assert all(words in done.stderr for words in ("tasks.yaml", "wandb", "none.yaml does not exist"))
