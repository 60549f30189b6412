"""What an earlier release left behind (tests/upgrade/record.py made it), where this release looks for it."""

from __future__ import annotations

import io
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from shared.settings import ParitySettings
from shared.store import Store
from tests.services.parity.conftest import api, pile, settings, spec, store, student, teacher, work
from tests.services.trainer.conftest import tiny_student

__all__ = ["api", "pile", "settings", "spec", "store", "student", "teacher", "tiny_student", "work"]
RECORDED = Path(__file__).parent / "recorded"


@dataclass(frozen=True)
class Recorded:
    """A recording whose folder is now ``root``; ``files`` are those that are in the store."""

    folder: Path
    root: Path
    jobs: dict[str, str]

    def record(self, moment: str) -> dict[str, str]:
        """The job's hash at that moment; its leases have run out since."""
        found: dict[str, str] = json.loads(self._text("records.json"))[moment]
        return {name: re.sub(r'"(expires|due)":[\d.]+', r'"\1":1.0', value) for name, value in found.items()}

    def messages(self, queue: str) -> list[str]:
        """As they lay in Redis, the oldest last."""
        found: list[str] = json.loads(self._text("messages.json"))[queue]
        return found

    def restore(self, client: redis.Redis, job: str, moment: str) -> str:
        """Put the record of a job into Redis; returns its id."""
        job_id, record = self.jobs[job], self.record(moment)
        client.hset(f"mpa:job:{job_id}", mapping=record)
        client.zadd("mpa:jobs", {job_id: float(record["updated"])})
        client.sadd("mpa:active", job_id)
        return job_id

    def _text(self, name: str) -> str:
        return (self.folder / name).read_text().replace(_old_root(self.folder), str(self.root))


@pytest.fixture(params=sorted(path.name for path in RECORDED.iterdir()))
def recorded(request: pytest.FixtureRequest, tmp_path: Path, settings: ParitySettings) -> Recorded:
    """The recording of one old commit, its artifacts in the store of ``settings``."""
    folder, root = RECORDED / request.param, tmp_path / "old"
    names: dict[str, Any] = json.loads((folder / "meta.json").read_text())
    shutil.copytree(folder, root)
    _relocate(root / "store", _old_root(folder), str(root))
    shutil.copytree(root / "store", Store(settings.store_url).url.removeprefix("file://"), dirs_exist_ok=True)
    return Recorded(folder, root, names["jobs"])


def _old_root(folder: Path) -> str:
    return str(json.loads((folder / "meta.json").read_text())["folder"])


def _relocate(store: Path, old: str, new: str) -> None:
    """Absolute paths of images lead to where they are now; nothing else is touched."""
    for path in store.glob("jobs/*/*.json*"):
        path.write_text(path.read_text().replace(old, new))
    for path in store.glob("jobs/*/set/*.parquet"):
        table = pq.read_table(path)
        images = pa.array([image.replace(old, new) for image in table["image"].to_pylist()], pa.string())
        index = table.schema.get_field_index("image")
        table = table.set_column(index, table.schema.field(index), images)
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd", store_schema=False)
        path.write_bytes(buffer.getvalue())
