"""What a worker needs to know of a job, read once per job: jobs and manifests never change after they are accepted."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from services.parity.jobs.submission import manifest_key, parse_entry, read_spec
from services.parity.mining.question_plan import RoundPlan, asked_before, questions_each
from shared.contracts import JobSpec, ManifestEntry, RoundReport
from shared.errors import NotFound
from shared.sets.rounds import read_round
from shared.state import round_of_shard
from shared.store import Store

KEPT_JOBS = 4


@dataclass(frozen=True)
class JobInput:
    """A job's spec and the lines of its manifest (parsed only where a shard needs them). ``shards``: of one round."""

    spec: JobSpec
    lines: list[bytes]
    shards: int

    def shard(self, number: int) -> list[ManifestEntry]:
        """The images of a shard, in manifest order; every round has the same ones."""
        first = number % self.shards * self.spec.shard_size
        return [parse_entry(line) for line in self.lines[first : first + self.spec.shard_size]]


class JobInputs:
    """A small cache over the artifact store; safe to use from threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._known: OrderedDict[str, JobInput] = OrderedDict()
        self._counts: tuple[tuple[str, int], dict[tuple[int, str], int]] | None = None

    def get(self, job_id: str) -> JobInput:
        """Raises NotFound if the job was never accepted."""
        with self._lock:
            if job_id not in self._known:
                self._known[job_id] = self._read(job_id)
            self._known.move_to_end(job_id)
            while len(self._known) > KEPT_JOBS:
                self._known.popitem(last=False)
            return self._known[job_id]

    def plan(self, job_id: str, shard: int) -> RoundPlan:
        """What the shard's round asks. Raises NotFound, also for a round whose predecessor is not over."""
        job = self.get(job_id)
        number, part = round_of_shard(shard, job.shards), shard % job.shards
        if number == 1:
            return RoundPlan(job.spec)
        last = read_round(self._store, job_id, number - 1)
        if last is None:
            raise NotFound(f"Round {number - 1} of job {job_id} is not in the artifact store: it is not over.")
        counts = self._steered(job_id, job, last) if job.spec.rounds.steer else {}
        return RoundPlan(job.spec, number, last, counts, asked_before(self._store, job_id, part, job.shards, number))

    def _steered(self, job_id: str, job: JobInput, last: RoundReport) -> dict[tuple[int, str], int]:
        """Counted over the whole manifest, so once a round."""
        with self._lock:
            if self._counts is None or self._counts[0] != (job_id, last.round):
                entries = [parse_entry(line) for line in job.lines]
                counts = questions_each(entries, job.spec.annotator.questions_per_image, last.tasks)
                self._counts = ((job_id, last.round), counts)
            return self._counts[1]

    def _read(self, job_id: str) -> JobInput:
        stored = read_spec(self._store, job_id)
        if stored is None:
            raise NotFound(f"Job {job_id} has no spec in the artifact store: submit it again.")
        return JobInput(stored.spec, self._store.read(manifest_key(job_id)).splitlines(), stored.shards)
