"""`mpa gc` in this process, and as its own process on a folder and on S3.

The process' clock runs a month ahead of ours, because nothing younger than an hour may be deleted.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.cli.main import app
from shared.checkpoints import CheckpointRegistry, build_card
from shared.contracts import JobSpec, JobState, Outcome, StoredSpec
from shared.state import JobStore
from shared.store import Store
from tests.shared.object_store import ENVIRONMENT, ObjectServer, make_bucket, object_server


def test_it_shows_and_deletes_nothing_that_is_young(
    tmp_store_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPA_STORE", tmp_store_url)
    monkeypatch.setenv("MPA_REDIS_URL", redis_url)
    store = Store(tmp_store_url)
    store.write("traffic/s/20200101T00/x.png", b"1")
    result = CliRunner().invoke(app, ["gc", "--delete", "--older-than", "0s", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"deleted": True, "bytes": 0, "removals": []}
    assert store.exists("traffic/s/20200101T00/x.png")


def test_redis_away_is_exit_code_3_and_a_bad_age_2(
    tmp_store_url: str, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPA_STORE", tmp_store_url)
    monkeypatch.setenv("MPA_REDIS_URL", f"redis://127.0.0.1:{free_port}/0")
    away = CliRunner().invoke(app, ["gc"])
    assert away.exit_code == 3 and "MPA_REDIS_URL" in away.stderr
    for age in ("soon", "nand", "-1h"):
        refused = CliRunner().invoke(app, ["gc", f"--older-than={age}"])
        assert refused.exit_code == 2 and f"--older-than '{age}'" in refused.stderr


A_MONTH_ON = """
import time
now = time.time
time.time = lambda: now() + 30 * 86400
from services.cli.main import app
app()
"""


STAYS = {
    "jobs/over/report.json",
    "jobs/over/set/shard-00001.parquet",
    "jobs/failed/images/x.png",
    "jobs/failed/set/shard-00000.parquet",
    "jobs/runs/images/x.png",
    "jobs/runs/set/shard-00000.parquet",
    "jobs/lost/set/shard-00000.parquet",
    "training/runs/start.json",
    "training/lost/start.json",
    "traffic/student/20200101T00/named.png",
    "traffic/student/20200101T00/beside.png",
    "uploads/u/x.png",
    "idempotency/a.json",
    "piles/may/x.png",
}


GOES = {
    "training/over": ["start.json", "steps/checkpoint-5/complete"],
    "training/failed": ["start.json"],
    "training/nobody": ["start.json"],
    "checkpoints/student/half": ["config.json"],
    "jobs/over/images": ["x.png"],
    "jobs/over/set/shard-00002.parquet": [],
    "jobs/never": ["images/x.png", "manifest.jsonl"],
    "traffic/student/20200102T00": ["x.png", "x-1.json"],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    with object_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    url = (tmp_path / "store").as_uri()
    if request.param == "s3":
        server: ObjectServer = request.getfixturevalue("server")
        for name, value in (ENVIRONMENT | {"AWS_ENDPOINT_URL": server.url}).items():
            monkeypatch.setenv(name, value)
        url = f"{make_bucket()}/mpa"
    return Store(url, cache_dir=tmp_path / "cache")


def stored(job_id: str) -> StoredSpec:
    spec = JobSpec.model_validate({"images": {"kind": "folder", "path": "/x"}, "tasks": ["chart"], "shard_size": 1})
    return StoredSpec(job_id=job_id, created_at=datetime.now(UTC), spec=spec, images=2, shards=2)


async def fill(store: Store, redis_url: str, folder: Path) -> None:
    """Jobs in every state, a checkpoint that serves and one of which half is there, and STAYS and GOES."""
    jobs = JobStore.from_url(redis_url)
    for job_id in ("over", "failed", "runs", "lost"):
        store.write(f"jobs/{job_id}/spec.json", stored(job_id).model_dump_json().encode())
        if job_id != "lost":
            await jobs.create(stored(job_id))
    assert await jobs.fail("failed", "the teacher is away")
    assert await jobs.transition("runs", JobState.QUEUED, JobState.COLLECTING)
    assert await jobs.transition("over", JobState.QUEUED, JobState.COLLECTING)
    assert await jobs.finish("over", JobState.COLLECTING, Outcome.NO_GAP, "nothing to learn")
    await jobs.aclose()
    image = store.url_of("traffic/student/20200101T00/named.png")
    store.write("jobs/runs/manifest.jsonl", json.dumps({"index": 0, "image": image, "tasks": ["chart"]}).encode())
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "x"}))
    registry = CheckpointRegistry(store, "student")
    registry.publish(folder, build_card(folder, version="v1", student="student", files=[folder / "config.json"]))
    registry.set_active("v1", "test")
    for key in STAYS | garbage_keys():
        store.write(key, b"12")


def garbage_keys() -> set[str]:
    return {f"{prefix}/{name}".rstrip("/") for prefix, names in GOES.items() for name in names or [""]}


def mpa_gc(store_url: str, redis_url: str, *options: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"MPA_STORE": store_url, "MPA_REDIS_URL": redis_url, "COLUMNS": "500"}
    command = [sys.executable, "-c", A_MONTH_ON, "gc", *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
async def test_only_with_delete_goes_what_no_job_needs_and_nothing_else(
    store: Store, redis_url: str, tmp_path: Path
) -> None:
    await fill(store, redis_url, tmp_path / "model")
    before = {key: store.read(key) for key in store.list("")}
    garbage = garbage_keys()
    assert garbage < before.keys() and before.keys() > STAYS

    shown = mpa_gc(store.url, redis_url)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert {line.split(" B  ")[1].split("  (")[0] for line in shown.stdout.splitlines()[:-1]} == set(GOES)
    assert f"{len(GOES)} found, {2 * len(garbage)} bytes could be deleted: run again" in shown.stdout
    assert {key: store.read(key) for key in store.list("")} == before

    young = mpa_gc(store.url, redis_url, "--delete", "--older-than", "31d", "--json")
    assert [found["kind"] for found in json.loads(young.stdout)["removals"]] == []

    deleted = mpa_gc(store.url, redis_url, "--delete", "--json")
    assert (deleted.returncode, deleted.stderr) == (0, "")
    told = json.loads(deleted.stdout)
    assert told["deleted"] is True and told["bytes"] == 2 * len(garbage)
    assert {removal["prefix"] for removal in told["removals"]} == set(GOES)
    assert {key: store.read(key) for key in store.list("")} == {k: v for k, v in before.items() if k not in garbage}

    again = mpa_gc(store.url, redis_url, "--delete")
    assert again.stdout.endswith("0 found, 0 bytes deleted\n")


@pytest.mark.slow
async def test_without_redis_nothing_goes(store: Store, redis_url: str, free_port: int, tmp_path: Path) -> None:
    await fill(store, redis_url, tmp_path / "model")
    before = store.list("")
    refused = mpa_gc(store.url, f"redis://127.0.0.1:{free_port}/0", "--delete")
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "Redis cannot be asked which jobs are running" in refused.stderr
    assert store.list("") == before


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["stopped", "bucket", "folder"])
def test_a_store_that_is_away_is_exit_code_3(
    server: ObjectServer, redis_url: str, free_port: int, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    endpoint = f"http://127.0.0.1:{free_port}" if kind == "stopped" else server.url
    for name, value in (ENVIRONMENT | {"AWS_ENDPOINT_URL": endpoint}).items():
        monkeypatch.setenv(name, value)
    url = "file:///dev/null/store" if kind == "folder" else "s3://no-such-bucket/mpa"
    words = {"stopped": "does not answer", "bucket": "bucket .* does not exist", "folder": "not a usable folder"}
    refused = mpa_gc(url, redis_url, "--delete")
    assert (refused.returncode, refused.stdout) == (3, "")
    assert re.search(words[kind], refused.stderr)
    assert "Traceback" not in refused.stderr
