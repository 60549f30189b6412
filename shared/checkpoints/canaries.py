"""The canary of a student in the artifact store: which version serves beside the active one, and which share it serves.

Every change is claimed as ``checkpoints/<student>/.canaries/<revision>.json`` with create-if-absent, so of a promotion
and an abort at the same moment exactly one happens; ``canary.json`` is the copy of the latest one for readers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from shared.compatibility import read_shown, read_stored
from shared.contracts import Canary, CanaryRequest, CanaryState
from shared.errors import Conflict, NotFound
from shared.store import Store

log = logging.getLogger(__name__)
NOT_SERVED = "is not being served"
"""Part of the 404 of a student that is asked for a version that it neither serves nor holds as a candidate."""
LEGAL: dict[CanaryState, frozenset[CanaryState]] = {
    CanaryState.RUNNING: frozenset({CanaryState.PROMOTING, CanaryState.PROMOTED, CanaryState.ABORTED}),
    CanaryState.PROMOTING: frozenset({CanaryState.PROMOTED, CanaryState.ABORTED}),
    CanaryState.PROMOTED: frozenset(),
    CanaryState.ABORTED: frozenset(),
}


class CanaryRegistry:
    """Canaries of one student, one at a time. Synchronous: call it through ``asyncio.to_thread`` in async code."""

    def __init__(self, store: Store, student: str) -> None:
        self.student = student
        self._store = store
        self._root = f"checkpoints/{student}"

    def latest(self) -> Canary | None:
        """The latest canary, ended or not; None before the first."""
        try:
            found = self._revision(read_shown(Canary, self._store.read(f"{self._root}/canary.json")).revision)
        except (NotFound, ValueError):
            found = None
        while (following := self._revision(found.revision + 1 if found else 0)) is not None:
            found = following
        return found

    def start(self, request: CanaryRequest, baseline: str) -> Canary:
        """Begin a canary of ``request.version``, or change the share, comparison or rule of the one that runs.

        Idempotent. A private request leaves a public canary of its version as it is, and prolongs a private one. Raises
        Conflict while another version's canary runs, or one is being promoted.
        """

        def decide(latest: Canary | None) -> Canary:
            if latest is None or latest.state.is_final:
                return self._begun(request, baseline, 0 if latest is None else latest.revision + 1)
            if latest.version != request.version or latest.state is not CanaryState.RUNNING:
                raise Conflict(
                    f"The {_kind(latest)} of {latest.version} is {latest.state} (begun by {latest.started_by}): "
                    "promote or abort it before another one begins."
                )
            if request.lifetime_seconds is not None:
                return _prolonged(latest, request)
            wanted = {"share": request.share, "compare": request.compare, "rule": request.rule, "expires_at": None}
            if all(getattr(latest, name) == value for name, value in wanted.items()):
                return latest
            return _changed(latest, request.by, f"share {request.share:g}", **wanted)

        return self._commit(decide)

    def move(self, canary_id: str, to: CanaryState, by: str, reason: str) -> Canary:
        """End a canary, or mark it as being promoted. Idempotent.

        Raises NotFound before the first canary, Conflict if ``canary_id`` is not the latest or ended otherwise.
        """

        def decide(latest: Canary | None) -> Canary:
            if latest is None:
                raise NotFound(f"Student {self.student} never had a canary: start one with PUT /v1/rollout/canary.")
            if latest.id != canary_id:
                raise Conflict(f"{canary_id} is over: the canary of {latest.version} came after it.")
            if latest.state is to:
                return latest
            if to not in LEGAL[latest.state]:
                raise Conflict(f"The canary of {latest.version} is {latest.state} already ({latest.reason}).")
            return _changed(latest, by, reason, state=to)

        return self._commit(decide)

    def end_private(self, by: str, reason: str) -> bool:
        """End the private candidate that ``by`` began, if it runs; the replicas free it when they next look."""
        latest = self.latest()
        if latest is None or latest.state.is_final or not latest.is_private or latest.started_by != by:
            return False
        try:
            self.move(latest.id, CanaryState.ABORTED, by, reason)
        except Conflict:
            return False
        return True

    def _commit(self, decide: Callable[[Canary | None], Canary]) -> Canary:
        """Write what ``decide`` makes of the latest canary, unless another replica was faster: then decide again."""
        while True:
            latest = self.latest()
            decided = decide(latest)
            if decided is latest:
                return decided
            data = decided.model_dump_json(indent=2).encode()
            if self._store.create(self._key(decided.revision), data):
                self._store.write(f"{self._root}/canary.json", data)
                log.info(
                    "The canary of %s is %s (%s)",
                    decided.version,
                    decided.state,
                    decided.reason,
                    extra={"checkpoint": decided.version},
                )
                return decided

    def _begun(self, request: CanaryRequest, baseline: str, revision: int) -> Canary:
        now = datetime.now(UTC)
        return Canary(
            id=f"canary-{revision}",
            revision=revision,
            student=self.student,
            version=request.version,
            baseline=baseline,
            share=request.share,
            compare=request.compare,
            rule=request.rule,
            state=CanaryState.RUNNING,
            started_by=request.by,
            started_at=now,
            changed_by=request.by,
            changed_at=now,
            reason="started",
            expires_at=_expiry(request, now),
        )

    def _revision(self, number: int) -> Canary | None:
        try:
            return read_stored(
                Canary, self._store.read(self._key(number)), f"Canary revision {number} of {self.student}"
            )
        except NotFound:
            return None

    def _key(self, revision: int) -> str:
        return f"{self._root}/.canaries/{revision:08d}.json"


def _changed(latest: Canary, by: str, reason: str, **changes: object) -> Canary:
    change = {"revision": latest.revision + 1, "changed_by": by, "changed_at": datetime.now(UTC), "reason": reason}
    return latest.model_copy(update={**change, **changes})


def _prolonged(latest: Canary, request: CanaryRequest) -> Canary:
    """``latest`` with a later expiry. Each change is a file, so it waits until a quarter of the lifetime is over."""
    if not latest.is_private:
        return latest
    expires = _expiry(request, datetime.now(UTC))
    assert expires is not None and request.lifetime_seconds is not None
    if latest.expires_at is not None and (expires - latest.expires_at).total_seconds() < request.lifetime_seconds / 4:
        return latest
    return _changed(latest, request.by, "asked for again", expires_at=expires)


def _expiry(request: CanaryRequest, now: datetime) -> datetime | None:
    return None if request.lifetime_seconds is None else now + timedelta(seconds=request.lifetime_seconds)


def _kind(canary: Canary) -> str:
    return "private candidate" if canary.is_private else "canary"


def owner_of(job_id: str) -> str:
    """The owner of a job's private candidates."""
    return f"job {job_id}"
