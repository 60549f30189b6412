"""The metrics of the parity API and its workers, as ``/metrics`` shows them."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.parity.endpoints.limiter import Limiter
from shared.contracts import JobState, Outcome
from shared.queue import COLLECT_QUEUE, TRAIN_QUEUE
from shared.sets import Row
from shared.state import COLLECT_STATES, ShardResult, Snapshot, WorkStatus
from shared.telemetry.metrics import LONG_SECONDS

QUEUES = (COLLECT_QUEUE, TRAIN_QUEUE)
SHARD_STATES = ("waiting", "queued", "in_work", "expired", "done", "failed")


class JobMetrics:
    """What the reconciler's last round saw. All replicas of the API see the same values: take the maximum over them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._jobs = Gauge("mpa_jobs", "Unfinished jobs by state", ["state"], registry=registry)
        self._shards = Gauge("mpa_shards", "Shards of collecting jobs, by state", ["state"], registry=registry)
        self._depth = Gauge("mpa_queue_messages", "Messages waiting for a worker", ["queue"], registry=registry)
        self._age = Gauge(
            "mpa_queue_oldest_message_age_seconds", "Wait of the oldest message so far", ["queue"], registry=registry
        )
        self._finished = Counter("mpa_jobs_finished", "Jobs that ended", ["state", "outcome"], registry=registry)
        self._expired = Counter(
            "mpa_lease_expiries", "Leases whose holder vanished, by what was leased", ["work"], registry=registry
        )
        self._round = Histogram(
            "mpa_reconciler_round_seconds", "Time of a round of the reconciler", buckets=LONG_SECONDS, registry=registry
        )
        self._unreadable = Gauge(
            "mpa_jobs_unreadable", "Unfinished jobs whose record is lost or damaged, and not rebuilt", registry=registry
        )
        self._failed = Counter("mpa_reconciler_failures", "Rounds of the reconciler that failed", registry=registry)
        self._last = Gauge(
            "mpa_reconciler_last_success_timestamp_seconds", "When a round last succeeded", registry=registry
        )
        for work in ("shard", "training"):
            self._expired.labels(work)
        for state in SHARD_STATES:
            self._shards.labels(state)
        # A counter that first appears with a value shows no increase, so the first failed job would go unseen.
        for final in (JobState.FAILED, JobState.CANCELLED):
            self._finished.labels(str(final), "none")
        for outcome in Outcome:
            self._finished.labels(str(JobState.SUCCEEDED), str(outcome))

    @contextmanager
    def round(self) -> Iterator[None]:
        """Time a round. A round that raises counts as failed."""
        try:
            with self._round.time():
                yield
        except Exception:
            self._failed.inc()
            raise
        self._last.set_to_current_time()

    def saw(self, snapshots: Iterable[Snapshot]) -> None:
        """Record the unfinished jobs, as a round found them."""
        jobs: Tally[str] = Tally()
        shards: Tally[str] = Tally()
        for snapshot in snapshots:
            jobs[str(snapshot.state)] += not snapshot.state.is_final
            if snapshot.state in COLLECT_STATES:
                shards.update(_shard_states(snapshot))
        for state in JobState:
            if not state.is_final:
                self._jobs.labels(str(state)).set(jobs[str(state)])
        for name in SHARD_STATES:
            self._shards.labels(name).set(shards[name])

    def unreadable(self, count: int) -> None:
        self._unreadable.set(count)

    def queue(self, name: str, depth: int, age: float) -> None:
        self._depth.labels(name).set(depth)
        self._age.labels(name).set(age)

    def expired(self, work: str, count: int = 1) -> None:
        self._expired.labels(work).inc(count)

    def finished(self, snapshot: Snapshot) -> None:
        self._finished.labels(str(snapshot.state), snapshot.info.outcome or "none").inc()


class WorkerMetrics:
    """The results of one parity worker's shards, and its calls to the model servers. Safe to use from threads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._shards = Counter("mpa_worker_shards", "Shards by how they ended here", ["result"], registry=registry)
        self._seconds = Histogram(
            "mpa_worker_shard_seconds", "Time to collect a shard", buckets=LONG_SECONDS, registry=registry
        )
        self._images = Counter("mpa_worker_images", "Images of finished shards", registry=registry)
        self._verdicts = Counter(
            "mpa_worker_pairs", "Pairs by task and verdict", ["task", "verdict"], registry=registry
        )
        self._tokens = Counter(
            "mpa_worker_teacher_tokens",
            "Teacher tokens spent, and saved by not asking it again",
            ["kind"],
            registry=registry,
        )
        self._calls = Histogram(
            "mpa_worker_call_seconds", "Time of a call to a model server", ["server", "outcome"], registry=registry
        )
        self._in_flight = Gauge("mpa_worker_calls_in_flight", "Calls in progress", ["server"], registry=registry)
        self._limit = Gauge(
            "mpa_worker_calls_limit",
            "Calls allowed at once, as the server's load permits",
            ["server"],
            registry=registry,
        )
        for result in ("done", "failed", "lease_lost", "postponed", "given_back"):
            self._shards.labels(result)

    def watch(self, calls: Limiter) -> None:
        """Show the limiter's state whenever the metrics are read."""
        self._in_flight.labels(calls.name).set_function(lambda: float(calls.in_flight))
        self._limit.labels(calls.name).set_function(lambda: float(int(calls.limit)))
        calls.on_call = lambda outcome, seconds: self._calls.labels(calls.name, outcome).observe(seconds)

    def ended(self, result: str) -> None:
        self._shards.labels(result).inc()

    def collected(self, rows: Iterable[Row], result: ShardResult, started: float) -> None:
        """A shard whose rows this worker made. ``started``: time.monotonic() when it began."""
        self._seconds.observe(time.monotonic() - started)
        self._images.inc(result.images)
        for (task, verdict), count in Tally((row.task, str(row.verdict)) for row in rows).items():
            self._verdicts.labels(task, verdict).inc(count)
        self._tokens.labels("prompt").inc(result.prompt_tokens)
        self._tokens.labels("completion").inc(result.completion_tokens)
        self._tokens.labels("saved").inc(result.saved_tokens)


def _shard_states(snapshot: Snapshot) -> Tally[str]:
    states: Tally[str] = Tally()
    for shard in snapshot.round_shards().values():
        if shard.status is WorkStatus.LEASED:
            states["in_work" if shard.held(snapshot.now) else "expired"] += 1
        elif shard.status is WorkStatus.PENDING:
            states["queued" if shard.queued else "waiting"] += 1
        else:
            states[str(shard.status)] += 1
    return states
