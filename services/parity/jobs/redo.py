"""A request to make the pairs of some verdicts again: stored before it is acknowledged, in ``jobs/<id>/redo.json``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from services.parity.jobs.report import read_report
from services.parity.mining.again import Again, read_again
from shared.compatibility import read_stored
from shared.contracts import JobState, JobStatus, Stored, Verdict
from shared.errors import Conflict, Damaged, InvalidInput, NotFound
from shared.sets import Row, read_shard, set_digest
from shared.sets.redone import redo_of, replace_rows
from shared.state import ShardResult, Snapshot, to_status
from shared.store import Store

MAY_CHANGE = (Verdict.REFUSED, Verdict.UNPARSABLE, Verdict.UNREADABLE_IMAGE)


class Redo(Stored):
    """``number``: from 1, one more for each request. ``before``: the job's last status, with the digest of its set."""

    number: int
    verdicts: list[Verdict]
    before: JobStatus
    set_digest: str | None = None


@dataclass(frozen=True)
class Due:
    """Pairs of one shard that are still to be made again. ``rows``: all that the shard has now."""

    redo: Redo
    job_id: str
    shard: int
    rows: pa.Table
    again: Again

    def publish(self, store: Store, rows: Iterable[Row]) -> ShardResult:
        """Replace them. Blocks."""
        return replace_rows(store, self.job_id, self.shard, self.rows, rows, self.redo.verdicts, self.redo.number)


def redo_key(job_id: str) -> str:
    return f"jobs/{job_id}/redo.json"


def read_redo(store: Store, job_id: str) -> Redo | None:
    """The last request; None if there was none."""
    try:
        return read_stored(Redo, store.read(redo_key(job_id)), f"The redo of job {job_id}")
    except NotFound:
        return None


def shards_to_redo(snapshot: Snapshot, verdicts: Collection[Verdict]) -> list[int]:
    """The finished shards with such pairs. Raises InvalidInput and Conflict if they cannot be made again."""
    job_id = snapshot.stored.job_id
    wrong = [str(verdict) for verdict in verdicts if verdict not in MAY_CHANGE]
    if wrong:
        raise InvalidInput(
            f"verdict: pairs that are {', '.join(wrong)} are not made again: name {', '.join(MAY_CHANGE)}.",
            param="verdict",
        )
    if snapshot.state not in (JobState.SUCCEEDED, JobState.FAILED):
        raise Conflict(f"Job {job_id} is {snapshot.state}: pairs can be made again once it has succeeded or failed.")
    if snapshot.info.rounds:
        raise Conflict(
            f"Job {job_id} mines in rounds, and each round built on the pairs of the one before: submit a new job."
        )
    finished = {number: shard.result for number, shard in snapshot.shards.items() if shard.result is not None}
    found = [number for number, result in finished.items() if any(result.verdicts.get(v) for v in verdicts)]
    if not found:
        raise Conflict(f"Job {job_id} has no pair that is {' or '.join(verdicts)}: there is nothing to do again.")
    return sorted(found)


def write_redo(store: Store, snapshot: Snapshot, verdicts: Sequence[Verdict]) -> Redo:
    """Make the request durable. Blocks."""
    job_id = snapshot.stored.job_id
    known, report = read_redo(store, job_id), read_report(store, job_id)
    digest = None
    if snapshot.state is JobState.SUCCEEDED:
        digest = (report.set_digest if report is not None else None) or set_digest(store, job_id)
    redo = Redo(
        number=1 + (known.number if known is not None else 0),
        verdicts=sorted(set(verdicts)),
        before=to_status(snapshot),
        set_digest=digest,
    )
    store.write(redo_key(job_id), redo.model_dump_json(indent=1).encode())
    return redo


def find_due(store: Store, job_id: str, shard: int) -> Due | None:
    """What is left to do again in a finished shard; None for any other shard, also a damaged one. Blocks."""
    redo = read_redo(store, job_id)
    if redo is None:
        return None
    try:
        rows = read_shard(store, job_id, shard)
        if redo_of(store, job_id, shard) >= redo.number:
            return None
    except (NotFound, Damaged):
        return None
    again = read_again(rows.select(["image_index", "task", "slot", "verdict", "question"]).to_pylist(), redo.verdicts)
    return None if again is None else Due(redo, job_id, shard, rows, again)
