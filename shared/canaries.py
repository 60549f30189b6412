"""The canary of a student as the artifact store keeps it: which version serves beside the active one, to what share.

Every change is claimed as ``checkpoints/<student>/.canaries/<revision>.json`` with create-if-absent, so of a promotion
and an abort at the same moment exactly one happens; ``canary.json`` is the copy of the latest one for readers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from shared.contracts import Canary, CanaryRequest, CanaryState
from shared.errors import Conflict, NotFound
from shared.store import Store

log = logging.getLogger(__name__)
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
            found = self._revision(Canary.model_validate_json(self._store.read(f"{self._root}/canary.json")).revision)
        except (NotFound, ValueError):
            found = None
        while (following := self._revision(found.revision + 1 if found else 0)) is not None:
            found = following
        return found

    def start(self, request: CanaryRequest, baseline: str) -> Canary:
        """Begin a canary of ``request.version``, or change the share, comparison or rule of the one that runs.

        Idempotent. Raises Conflict while another version's canary runs, or one is being promoted.
        """

        def decide(latest: Canary | None) -> Canary:
            if latest is None or latest.state.is_final:
                return self._begun(request, baseline, 0 if latest is None else latest.revision + 1)
            if latest.version != request.version or latest.state is not CanaryState.RUNNING:
                raise Conflict(
                    f"The canary of {latest.version} is {latest.state}: promote or abort it before another one begins."
                )
            wanted = {"share": request.share, "compare": request.compare, "rule": request.rule}
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
        )

    def _revision(self, number: int) -> Canary | None:
        try:
            return Canary.model_validate_json(self._store.read(self._key(number)))
        except NotFound:
            return None

    def _key(self, revision: int) -> str:
        return f"{self._root}/.canaries/{revision:08d}.json"


def _changed(latest: Canary, by: str, reason: str, **changes: object) -> Canary:
    change = {"revision": latest.revision + 1, "changed_by": by, "changed_at": datetime.now(UTC), "reason": reason}
    return latest.model_copy(update={**change, **changes})
