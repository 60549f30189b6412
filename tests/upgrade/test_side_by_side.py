"""An API of one release and a worker of another do a job together, both really running, in either order."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.upgrade.record import Recording, until

HERE = Path(__file__).parents[2]
EARLIER = "3e127b6"
"""The first commit whose processes read what others wrote tolerantly. Name the last release here once there is one."""


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of that commit, out of this checkout's history."""
    made = subprocess.run(["git", "archive", EARLIER, "services", "shared"], cwd=HERE, capture_output=True)
    if made.returncode != 0:
        pytest.skip(f"this checkout has no history with {EARLIER}: {made.stderr.decode(errors='replace').strip()}")
    folder = tmp_path_factory.mktemp("earlier")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=made.stdout, check=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("newer", ["api", "worker"])
def test_a_job_needs_no_processes_of_one_release(newer: str, earlier: Path, tmp_path: Path) -> None:
    system = Recording(earlier, tmp_path)
    try:
        system.start("-m", "services.parity", checkout=HERE if newer == "api" else earlier)
        until(lambda: httpx.get(f"{system.url}/readyz", timeout=5).status_code == 200)
        system.start("-m", "services.parity.worker", checkout=HERE if newer == "worker" else earlier)
        job_id = system.submit("pile")
        until(lambda: system.record(job_id)["state"] in ("training", "failed"))
        record = system.record(job_id)
        shown = httpx.get(f"{system.url}/v1/jobs/{job_id}", timeout=10).json()
    finally:
        system.stop()
    assert (record["state"], shown["state"]) == ("training", "training")
    shards = [json.loads(value) for name, value in record.items() if name.startswith("shard:")]
    assert [(shard["status"], shard["attempts"]) for shard in shards] == [("done", 1)] * 4, "nobody stumbled over it"
    assert sum(shown["verdicts"].values()) == shown["pairs"] == 40
