"""One Parquet file per shard: write one, read one or all, and compute the digest of the whole set."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shared.compatibility import check_schema, reading
from shared.contracts import Pair, Split, Verdict
from shared.errors import Damaged, NotFound
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


_SHARD = re.compile(r"/shard-([0-9]{5,9})\.parquet$")


def set_prefix(job_id: str) -> str:
    return f"jobs/{job_id}/set"


def shard_key(job_id: str, shard: int) -> str:
    return f"{set_prefix(job_id)}/shard-{shard:05d}.parquet"


def write_shard(store: Store, job_id: str, shard: int, rows: Iterable[Row]) -> ShardResult:
    """Publish a whole shard unless it exists: the first writer wins. Returns the counts of what is stored."""
    table = to_table(sorted(rows, key=lambda row: (row.image_index, row.task, row.slot)))
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", store_schema=False, write_page_checksum=True)
    if store.create(shard_key(job_id, shard), buffer.getvalue()):
        return summarise(table)
    return summarise(read_shard(store, job_id, shard))


def to_table(rows: Iterable[Row]) -> pa.Table:
    """The rows in this order."""
    columns = [{"pair_id": row.pair_id, **asdict(row), "votes": list(row.votes), **_maps(row)} for row in rows]
    return pa.Table.from_pylist(columns, schema=SCHEMA)


def _maps(row: Row) -> dict[str, Any]:
    maps = {"teacher_attention": row.teacher_attention, "student_attention": row.student_attention}
    return {name: None if values is None else list(values) for name, values in maps.items()}


def read_shard(store: Store, job_id: str, shard: int) -> pa.Table:
    """One shard's rows. Raises NotFound, Damaged, NewerSchema."""
    key = shard_key(job_id, shard)
    return _table(store.read(key), store.url_of(key))


def set_shard_aside(store: Store, job_id: str, shard: int) -> None:
    """Move a damaged file out of the set, to ``jobs/<id>/damaged/``, for whoever looks into it."""
    key = shard_key(job_id, shard)
    with suppress(NotFound):  # somebody was faster
        store.copy(key, f"jobs/{job_id}/damaged/{key.rpartition('/')[2]}")
        try:
            read_shard(store, job_id, shard)  # somebody may have published a good one meanwhile
        except Damaged:
            store.delete(key)


def missing_shards(store: Store, job_id: str, shards: range) -> list[int]:
    """Those of ``shards`` that have no file."""
    return sorted(set(shards) - set(shard_numbers(store, job_id)))


def set_damaged_aside(store: Store, job_id: str) -> list[int]:
    """Move all damaged files out of the set; returns their numbers."""
    found = []
    for number in shard_numbers(store, job_id):
        try:
            read_shard(store, job_id, number)
        except Damaged:
            set_shard_aside(store, job_id, number)
            found.append(number)
    return found


def shard_numbers(store: Store, job_id: str) -> list[int]:
    """The shards that are finished, sorted. Files with other names are not part of the set."""
    names = [_SHARD.search(key) for key in store.list(set_prefix(job_id))]
    return sorted(int(found[1]) for found in names if found)


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


def _table(data: bytes, what: str) -> pa.Table:
    with reading(what):
        try:
            file = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True)
            check_schema(int((file.metadata.metadata or {}).get(b"mpa.schema", b"1")), what)
            table = pq.read_table(io.BytesIO(data), schema=SCHEMA, page_checksum_verification=True)
            table.validate(full=True)
        except OSError as error:  # of Arrow: the bytes are read already
            raise ValueError(str(error)) from error
        _check_rows(table)
    return table


def _check_rows(table: pa.Table) -> None:
    """Raises ValueError for rows that no release has written."""
    for name, kind in (("verdict", Verdict), ("split", Split)):
        for value in pc.unique(table[name]).to_pylist():
            kind(value)
    if missing := [field.name for field in SCHEMA if not field.nullable and table[field.name].null_count]:
        raise ValueError(f"rows without {', '.join(missing)}")


def _chosen(
    table: pa.Table, verdicts: Sequence[Verdict] | None, split: Split | None, rounds: Sequence[int] | None
) -> pa.Table:
    if rounds is not None:
        table = table.filter(pc.is_in(pc.fill_null(table["round"], 1), pa.array(rounds, pa.int32())))
    if verdicts is not None:
        table = table.filter(pc.is_in(table["verdict"], pa.array([str(v) for v in verdicts], pa.string())))
    return table if split is None else table.filter(pc.equal(table["split"], str(split)))
