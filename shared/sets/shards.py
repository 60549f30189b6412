"""One Parquet file per shard: write one, read one or all, and compute the digest of the whole set."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shared.compatibility import check_schema
from shared.contracts import Pair, Split, Verdict
from shared.sets.schema import SCHEMA, Row
from shared.sets.summary import summarise
from shared.state import ShardResult
from shared.store import Store

# The content of a set, without where it was made, who asked for it, or what it cost: equal sets have equal digests.
DIGEST_COLUMNS = (
    "image_sha256",
    "task",
    "slot",
    "split",
    "verdict",
    "question",
    "teacher_answer",
    "student_answer",
    "votes",
)


def set_prefix(job_id: str) -> str:
    return f"jobs/{job_id}/set"


def shard_key(job_id: str, shard: int) -> str:
    return f"{set_prefix(job_id)}/shard-{shard:05d}.parquet"


def write_shard(store: Store, job_id: str, shard: int, rows: Iterable[Row]) -> ShardResult:
    """Publish a whole shard unless it exists: the first writer wins. Returns the counts of what is stored."""
    ordered = sorted(rows, key=lambda row: (row.image_index, row.task, row.slot))
    columns = [{"pair_id": row.pair_id, **asdict(row), "votes": list(row.votes), **_maps(row)} for row in ordered]
    table = pa.Table.from_pylist(columns, schema=SCHEMA)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", store_schema=False)
    if store.create(shard_key(job_id, shard), buffer.getvalue()):
        return summarise(table)
    return summarise(read_shard(store, job_id, shard))


def _maps(row: Row) -> dict[str, Any]:
    maps = {"teacher_attention": row.teacher_attention, "student_attention": row.student_attention}
    return {name: None if values is None else list(values) for name, values in maps.items()}


def read_shard(store: Store, job_id: str, shard: int) -> pa.Table:
    """One shard's rows. Raises NotFound."""
    return _table(store.read(shard_key(job_id, shard)))


def shard_numbers(store: Store, job_id: str) -> list[int]:
    """The shards that are finished, sorted."""
    names = [key.rsplit("/", 1)[1] for key in store.list(set_prefix(job_id)) if key.endswith(".parquet")]
    return sorted(int(name.removeprefix("shard-").removesuffix(".parquet")) for name in names)


def read_set(
    store: Store,
    job_id: str,
    *,
    verdicts: Sequence[Verdict] | None = None,
    split: Split | None = None,
    rounds: Sequence[int] | None = None,
) -> pa.Table:
    """All finished rows of these verdicts, this split and these rounds: by round, then in manifest order."""
    tables = [_chosen(table, verdicts, split, rounds) for table in _shards(store, job_id)]
    return pa.concat_tables(tables) if tables else SCHEMA.empty_table()


def set_digest(store: Store, job_id: str) -> str:
    """sha256 over the rows' content, in order. Equal results have equal digests, whatever was run again."""
    digest = hashlib.sha256()
    for table in _shards(store, job_id):
        for row in table.select(DIGEST_COLUMNS).to_pylist():
            digest.update(json.dumps([row[name] for name in DIGEST_COLUMNS], ensure_ascii=False).encode())
            digest.update(b"\n")
    return digest.hexdigest()


def to_pair(row: dict[str, Any]) -> Pair:
    """A row (of ``Table.to_pylist``) as the API shows it."""
    return Pair.model_validate({name: row[name] for name in Pair.model_fields})


def _shards(store: Store, job_id: str) -> Iterator[pa.Table]:
    for shard in shard_numbers(store, job_id):
        yield read_shard(store, job_id, shard)


def _table(data: bytes) -> pa.Table:
    file = pq.ParquetFile(io.BytesIO(data))
    check_schema(int((file.metadata.metadata or {}).get(b"mpa.schema", b"1")), "The shard")
    return pq.read_table(io.BytesIO(data), schema=SCHEMA)


def _chosen(
    table: pa.Table, verdicts: Sequence[Verdict] | None, split: Split | None, rounds: Sequence[int] | None
) -> pa.Table:
    if rounds is not None:
        table = table.filter(pc.is_in(pc.fill_null(table["round"], 1), pa.array(rounds, pa.int32())))
    if verdicts is not None:
        table = table.filter(pc.is_in(table["verdict"], pa.array([str(v) for v in verdicts], pa.string())))
    return table if split is None else table.filter(pc.equal(table["split"], str(split)))
