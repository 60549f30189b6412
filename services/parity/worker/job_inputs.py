"""What a worker needs to know about a job. Read once per job, because an accepted job and its manifest never change."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.parity.jobs.model_checks import check_trainable
from services.parity.jobs.submission import manifest_key, parse_entry, read_spec
from services.parity.mining.question_plan import RoundPlan, asked_before, questions_each
from shared.contracts import JobSpec, ManifestEntry, RoundReport
from shared.errors import NotFound, StorageUnavailable
from shared.sets.rounds import read_round
from shared.state import round_of_shard
from shared.store import Store

KEPT_JOBS = 4
KEPT_COUNTS = 1
T = TypeVar("T")


@dataclass(frozen=True)
class JobInput:
    """A job's spec and the lines of its manifest, which are parsed only when a shard needs them.

    ``shards``: how many shards one round has.
    """

    spec: JobSpec
    lines: list[bytes]
    shards: int

    def shard(self, number: int) -> list[ManifestEntry]:
        """The images of a shard in manifest order. They are the same in every round."""
        first = number % self.shards * self.spec.shard_size
        return [parse_entry(line) for line in self.lines[first : first + self.spec.shard_size]]


class JobInputs:
    """A small cache over the artifact store. Safe to use from threads: only callers of the same job wait for it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._checked: deque[str] = deque(maxlen=KEPT_JOBS)
        self._jobs: _Kept[JobInput] = _Kept(KEPT_JOBS)
        self._counts: _Kept[dict[tuple[int, str], int]] = _Kept(KEPT_COUNTS)

    def get(self, job_id: str) -> JobInput:
        """Raises NotFound if the job was never accepted."""
        return self._jobs.get(job_id, lambda: self._read(job_id))

    def check_student(self, job_id: str) -> None:
        """Raises UntrainableStudent. A student that was not running at the submission is first seen here."""
        if job_id in self._checked:
            return
        if check_trainable(self._store, self.get(job_id).spec.student):
            self._checked.append(job_id)

    def plan(self, job_id: str, shard: int) -> RoundPlan:
        """What the shard's round asks. Raises NotFound, also for a round whose predecessor has not ended."""
        job = self.get(job_id)
        number, part = round_of_shard(shard, job.shards), shard % job.shards
        if number == 1:
            return RoundPlan(job.spec)
        last = read_round(self._store, job_id, number - 1)
        if last is None:
            raise NotFound(f"Round {number - 1} of job {job_id} is not in the artifact store: it has not ended yet.")
        counts = self._steered(job_id, job, last) if job.spec.rounds.steer else {}
        return RoundPlan(job.spec, number, last, counts, asked_before(self._store, job_id, part, job.shards, number))

    def _steered(self, job_id: str, job: JobInput, last: RoundReport) -> dict[tuple[int, str], int]:
        """Counted over the whole manifest, so only once a round."""

        def count() -> dict[tuple[int, str], int]:
            entries = [parse_entry(line) for line in job.lines]
            return questions_each(entries, job.spec.annotator.questions_per_image, last.tasks)

        return self._counts.get((job_id, last.round), count)

    def _read(self, job_id: str) -> JobInput:
        stored = read_spec(self._store, job_id)
        if stored is None and not self._store.list_dirs("jobs"):
            raise StorageUnavailable(
                f"The artifact store {self._store.url} holds no job at all, though {job_id} was accepted: check that "
                "it is mounted, and MPA_STORE."
            )
        if stored is None:
            raise NotFound(f"Job {job_id} has no spec in the artifact store: submit it again.")
        return JobInput(stored.spec, self._store.read(manifest_key(job_id)).splitlines(), stored.shards)


class _Kept(Generic[T]):
    """The most recently used values. Each is made once, under its own lock."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, tuple[threading.Lock, list[T]]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        with self._lock:
            making, made = self._entries.setdefault(key, (threading.Lock(), []))
            self._entries.move_to_end(key)
            while len(self._entries) > self._most:
                self._entries.popitem(last=False)
        with making:
            if not made:
                made.append(make())
            return made[0]
