"""Pages of the rows of a job's set, shard by shard, while the set grows or once it is complete."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from shared.contracts import PairPage, Verdict
from shared.errors import InvalidInput
from shared.sets import read_shard, shard_numbers, to_pair
from shared.store import Store

_CURSOR = re.compile(r"^(\d{1,9})-(\d{1,9})$")


def read_pairs(
    store: Store, job_id: str, *, verdicts: Sequence[Verdict], task: str | None, cursor: str | None, limit: int
) -> PairPage:
    """The next ``limit`` rows after ``cursor``, in manifest order, with one of ``verdicts`` (empty: any).

    Only the last page is shorter. While shards are being collected, later pages may grow. Raises InvalidInput for a
    cursor that is not valid.
    """
    shard, row = _parse(cursor)
    rows: list[dict[str, object]] = []
    for number in (n for n in shard_numbers(store, job_id) if n >= shard):
        table = _filtered(read_shard(store, job_id, number), verdicts, task)
        start = row if number == shard else 0
        taken = table.slice(start, limit - len(rows))
        rows += taken.to_pylist()
        if len(rows) == limit:
            return PairPage(pairs=[to_pair(r) for r in rows], next_cursor=f"{number}-{start + taken.num_rows}")
    return PairPage(pairs=[to_pair(r) for r in rows])


def _parse(cursor: str | None) -> tuple[int, int]:
    if cursor is None:
        return 0, 0
    found = _CURSOR.match(cursor)
    if found is None:
        raise InvalidInput(f"cursor {cursor!r} is not valid: pass the next_cursor of the previous page.")
    return int(found[1]), int(found[2])


def _filtered(table: pa.Table, verdicts: Sequence[Verdict], task: str | None) -> pa.Table:
    if verdicts:
        table = table.filter(pc.is_in(table["verdict"], pa.array([str(v) for v in verdicts], pa.string())))
    return table if task is None else table.filter(pc.equal(table["task"], task))
