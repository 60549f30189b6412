from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest

from demo.driver.system import DemoError, refuse_if_running


def test_a_folder_without_a_system_is_free(tmp_path: Path) -> None:
    refuse_if_running(tmp_path)


def test_a_folder_of_a_system_that_ended_is_free(tmp_path: Path) -> None:
    (tmp_path / "mpa.lock").touch()
    (tmp_path / "endpoints.json").write_text(json.dumps({"pid": 1}))
    refuse_if_running(tmp_path)


def test_a_running_system_is_named(tmp_path: Path) -> None:
    (tmp_path / "endpoints.json").write_text(json.dumps({"pid": 4711}))
    with (tmp_path / "mpa.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DemoError, match="kill 4711"):
            refuse_if_running(tmp_path)
