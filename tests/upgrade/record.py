"""Records what an earlier release leaves behind by running its API, its worker and its registry.

    git worktree add ../old <commit>
    python -m tests.upgrade.record ../old tests/upgrade/recorded/<commit>

Both services run from that checkout, against a real Redis and a model server of the tests. Written are the Celery
messages as they lie in Redis, the jobs' records (one hash a moment), the artifact store, the images, and `meta.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import redis

from shared.processes.ports import free_port
from tests.embedded_redis import start_embedded_redis
from tests.quick_server import ServerThread
from tests.scripted_models import ScriptedModel, weak_student, wise_teacher
from tests.services.parity.conftest import TASKS, png

REGISTRY = """
import sys
from pathlib import Path
from shared.checkpoints import CheckpointRegistry, build_card
from shared.contracts import Evaluation, TaskScore
from shared.store import Store
registry = CheckpointRegistry(Store(sys.argv[1]), "student")
folder = Path(sys.argv[2])
base = registry.register_base(folder)
score = TaskScore(questions=8, agreement_before=0.5, agreement_after=0.75)
for version in ("first", "second"):
    card = build_card(
        folder, version=version, student="student", base=base, job_id="old-job", set_digest="0" * 64, seed=3,
        loss={"final": 0.25}, evaluation=Evaluation(overall=score, tasks={"chart": score}), teacher="teacher",
    )
    registry.publish(folder, card)
    registry.set_active(version, "job:old-job")
registry.rollback("somebody")
"""


class Recording:
    """A system of the old release in a folder of its own."""

    def __init__(self, checkout: Path, folder: Path) -> None:
        self.folder = folder
        self.teacher = ScriptedModel(wise_teacher)
        self._servers = [ServerThread(self.teacher.app()), ServerThread(ScriptedModel(weak_student).app())]
        self._redis = start_embedded_redis(folder / "redis")
        self.redis = redis.Redis.from_url(self._redis.url)
        self.url = f"http://127.0.0.1:{free_port()}"
        (folder / "tasks.yaml").write_text(TASKS)
        for name, count in (("pile", 20), ("small", 8)):
            (folder / name).mkdir()
            for number in range(count):
                (folder / name / f"{number:03d}.png").write_bytes(png(number))
        self._checkout = checkout
        self._environment = {
            **os.environ,
            "MPA_DATA_DIR": str(folder / "data"),
            "MPA_STORE": (folder / "store").as_uri(),
            "MPA_REDIS_URL": self._redis.url,
            "MPA_TEACHER_URL": self._servers[0].url,
            "MPA_STUDENT_URL": self._servers[1].url,
            "MPA_TASKS_FILE": str(folder / "tasks.yaml"),
            "MPA_IMAGE_ROOTS": json.dumps([str(folder)]),
            "MPA_PARITY_PORT": self.url.rpartition(":")[2],
            "MPA_WORKER_CONCURRENCY": "1",
        }
        self._children: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str, checkout: Path | None = None) -> subprocess.Popen[bytes]:
        """A process of the old release, or of another ``checkout``."""
        folder = checkout or self._checkout
        environment = self._environment | {"PYTHONPATH": str(folder)}
        child = subprocess.Popen([sys.executable, *arguments], env=environment, cwd=folder)
        self._children.append(child)
        return child

    def submit(self, name: str) -> str:
        spec = {
            "name": name,
            "images": {"kind": "folder", "path": str(self.folder / name)},
            "tasks": ["chart"],
            "annotator": {"questions_per_image": 2},
            "identifier": {"votes": 3, "threshold": 0.6},
            "train": {"max_steps": 2, "batch_size": 4},
            "gate": {"held_out_fraction": 0.3},
            "shard_size": 5 if name == "pile" else 8,
            "seed": 3,
        }
        answer = httpx.post(f"{self.url}/v1/jobs", json=spec, timeout=30).raise_for_status()
        return str(answer.json()["id"])

    def record(self, job_id: str) -> dict[str, str]:
        found: Any = self.redis.hgetall(f"mpa:job:{job_id}")
        return {name.decode(): value.decode() for name, value in found.items()}

    def messages(self, queue: str) -> list[str]:
        found: Any = self.redis.lrange(queue, 0, -1)
        return [message.decode() for message in found]

    def stop(self) -> None:
        for child in self._children:
            child.kill()
            child.wait(10)
        self._redis.stop()
        for server in self._servers:
            server.stop()


def until(what: Callable[[], Any], seconds: float = 120.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := what():
                return found
        except httpx.HTTPError:
            pass
        time.sleep(0.02)
    raise SystemExit("the old release did not get there in time")


def record(checkout: Path, out: Path, folder: Path) -> None:
    system = Recording(checkout, folder)
    records, messages = {}, {}
    try:
        api = system.start("-m", "services.parity")
        until(lambda: httpx.get(f"{system.url}/readyz", timeout=5).status_code == 200)
        pile = system.submit("pile")
        until(lambda: len(system.messages("collect")) == 4)
        records["queued"], messages["collect"] = system.record(pile), system.messages("collect")
        system.teacher.delay = 0.05
        worker = system.start("-m", "services.parity.worker")
        records["collecting"] = until(lambda: _half_done(system.record(pile)))
        worker.kill()  # in the middle of its second shard
        system.teacher.delay = 0.0
        kept = folder / "killed"
        shutil.copytree(folder / "store", kept)
        small = system.submit("small")
        system.start("-m", "services.parity.worker")
        until(lambda: system.record(small)["state"] == "training" and system.messages("train"))
        records["training"], messages["train"] = system.record(small), system.messages("train")[:1]
        api.send_signal(signal.SIGTERM)
        api.wait(20)
    finally:
        system.stop()
    shutil.copytree(folder / "store/jobs" / small, kept / "jobs" / small)
    model = _small_model(folder / "model")
    subprocess.run([sys.executable, "-c", REGISTRY, kept.as_uri(), str(model)], env=system._environment, check=True)
    _publish(out, kept, records, messages, {"jobs": {"pile": pile, "small": small}, "folder": str(folder)}, checkout)


def _half_done(record: dict[str, str]) -> dict[str, str] | None:
    shards = [json.loads(value) for name, value in record.items() if name.startswith("shard:")]
    states = [shard.get("status") for shard in shards]
    return record if "done" in states and "leased" in states else None


def _small_model(folder: Path) -> Path:
    """The smallest model that a registry accepts: one tensor and a configuration."""
    header = json.dumps({"weight": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    (folder / "config.json").write_text('{"model_type": "idefics3"}')
    return folder


def _publish(
    out: Path, store: Path, records: dict[str, Any], messages: dict[str, Any], meta: dict[str, Any], checkout: Path
) -> None:
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(store, out / "store")
    for name in meta["jobs"]:
        shutil.copytree(Path(meta["folder"]) / name, out / name)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=True)
    for name, value in (("records", records), ("messages", messages), ("meta", meta | {"commit": commit.stdout[:7]})):
        (out / f"{name}.json").write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mpa-old-") as scratch:
        record(given.checkout.absolute(), given.out.absolute(), Path(scratch))
