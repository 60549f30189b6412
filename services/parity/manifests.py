"""What a worker needs to know of a job, read once per job: jobs and manifests never change after they are accepted."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from services.parity.submission import manifest_key, parse_entry, read_spec
from shared.contracts import JobSpec, ManifestEntry
from shared.errors import NotFound
from shared.store import Store

KEPT_JOBS = 4


@dataclass(frozen=True)
class JobInput:
    """A job's spec and the lines of its manifest (parsed only where a shard needs them)."""

    spec: JobSpec
    lines: list[bytes]

    def shard(self, number: int) -> list[ManifestEntry]:
        """The images of a shard, in manifest order."""
        first = number * self.spec.shard_size
        return [parse_entry(line) for line in self.lines[first : first + self.spec.shard_size]]


class JobInputs:
    """A small cache over the artifact store; safe to use from threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._known: OrderedDict[str, JobInput] = OrderedDict()

    def get(self, job_id: str) -> JobInput:
        """Raises NotFound if the job was never accepted."""
        with self._lock:
            if job_id not in self._known:
                self._known[job_id] = self._read(job_id)
            self._known.move_to_end(job_id)
            while len(self._known) > KEPT_JOBS:
                self._known.popitem(last=False)
            return self._known[job_id]

    def _read(self, job_id: str) -> JobInput:
        stored = read_spec(self._store, job_id)
        if stored is None:
            raise NotFound(f"Job {job_id} has no spec in the artifact store: submit it again.")
        return JobInput(stored.spec, self._store.read(manifest_key(job_id)).splitlines())
