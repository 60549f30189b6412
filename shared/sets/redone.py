"""Shards of which some rows were made again. The file's metadata says by which request: ``mpa.redo``, from 1."""

from __future__ import annotations

import io
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shared.compatibility import reading
from shared.contracts import Verdict
from shared.sets.schema import SCHEMA, Row
from shared.sets.shards import read_shard, shard_key, to_table
from shared.sets.summary import summarise
from shared.state import ShardResult
from shared.store import Store

_REDO = b"mpa.redo"


def redo_of(store: Store, job_id: str, shard: int) -> int:
    """The last request that the shard's rows answer; 0: none was made again. Raises NotFound, Damaged."""
    data = store.read(shard_key(job_id, shard))
    with reading(f"Shard {shard} of job {job_id}"):
        return int((pq.read_metadata(io.BytesIO(data)).metadata or {}).get(_REDO, b"0"))


def replace_rows(
    store: Store, job_id: str, shard: int, old: pa.Table, rows: Iterable[Row], verdicts: Iterable[Verdict], redo: int
) -> ShardResult:
    """Publish ``old`` with ``rows`` in place of its rows of ``verdicts``. Returns the counts of what is stored.

    The file is replaced as a whole, so a reader sees all rows of before or all of now. A file that answers this request
    already stays. What the replaced rows had cost is added to the new ones, so that the job's tokens stay true.
    """
    if redo_of(store, job_id, shard) >= redo:
        return summarise(read_shard(store, job_id, shard))
    again = pc.is_in(old["verdict"], pa.array([str(v) for v in verdicts], pa.string()))
    new = _with_earlier_cost(to_table(rows), old.filter(again))
    table = pa.concat_tables([old.filter(pc.invert(again)), new])
    places = [table[name].to_pylist() for name in ("image_index", "task", "slot")]
    table = table.take(sorted(range(table.num_rows), key=lambda row: tuple(column[row] for column in places)))
    buffer = io.BytesIO()
    with pq.ParquetWriter(
        buffer, table.schema, compression="zstd", store_schema=False, write_page_checksum=True
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({_REDO: str(redo).encode()})
    store.write(shard_key(job_id, shard), buffer.getvalue())
    return summarise(table)


def _with_earlier_cost(new: pa.Table, replaced: pa.Table) -> pa.Table:
    for name in ("prompt_tokens", "completion_tokens"):
        spent = dict(zip(replaced["pair_id"].to_pylist(), replaced[name].to_pylist(), strict=True))
        pairs = zip(new["pair_id"].to_pylist(), new[name].to_pylist(), strict=True)
        both = pa.array([now + spent.get(pair, 0) for pair, now in pairs], pa.int64())
        new = new.set_column(new.schema.get_field_index(name), SCHEMA.field(name), both)
    return new
