"""Images inside tables: Parquet, Arrow and JSONL files with a column of pictures, as Hugging Face lays them out.

An image is named ``<file>#<row>``, or ``<file>#<row>.<item>`` in a column of lists, both from 0. Only the column of
images is read, whatever else a table holds. pyarrow is imported on first use: the model services do without it.
"""

from __future__ import annotations

import re
import threading
from array import array
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from shared.images.json_tables import (
    JSON_SUFFIXES,
    NAMES,
    cell_bytes,
    image_cell,
    json_references,
    line_starts,
    read_records,
)

TABLE_SUFFIXES = (".parquet", ".arrow", *JSON_SUFFIXES)
_REFERENCE = re.compile(r"^(?P<file>.+\.(?:parquet|arrow|jsonl|ndjson))#(?P<row>\d+)(?:\.(?P<item>\d+))?$")
_BATCH = 16
_KEPT = 8
"""Batches of rows in memory: a worker asks for the rows of a shard nearly in order."""


def split_reference(image: str) -> tuple[str, int, int | None] | None:
    """File, row and item of an image in a table; None for other names."""
    found = _REFERENCE.match(image)
    if found is None:
        return None
    item = found["item"]
    return found["file"], int(found["row"]), None if item is None else int(item)


def image_column(schema: Any) -> str | None:
    """The column with images as bytes; None if there is none, or several and none has a usual name."""
    found = [field.name for field in schema if _holds_images(field.type, field.name)]
    usual = [name for name in NAMES if name in found]
    return usual[0] if usual else found[0] if len(found) == 1 else None


def references(name: str, file: BinaryIO) -> Iterator[str] | None:
    """The images of a table in order; None if it has no column of them. Raises ArrowException and OSError."""
    if name.endswith(JSON_SUFFIXES):
        return json_references(name, file)
    table = _Table(name, file)
    return None if table.column is None else table.references()


class TableImages:
    """Reads images of tables, keeping the last batches of rows. Safe to use from threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int], list[Any]] = OrderedDict()
        self._starts: OrderedDict[str, array[int]] = OrderedDict()

    def cell(self, name: str, row: int, item: int | None, opened: Any) -> Any:
        """Bytes, ``{"bytes", "path"}`` or None. ``opened`` gives the open file in a ``with`` block.

        Raises LookupError for a row that is not there, ArrowException and OSError.
        """
        with self._lock:
            key = (name, row // _BATCH)
            if key not in self._kept:
                with opened() as file:
                    self._kept[key] = self._batch(name, file, row // _BATCH)
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            value = self._kept[key][row % _BATCH]
        if name.endswith(JSON_SUFFIXES):
            value = _json_cell(value)
        return value if item is None else value[item]

    def _batch(self, name: str, file: BinaryIO, number: int) -> list[Any]:
        if not name.endswith(JSON_SUFFIXES):
            return _Table(name, file).batch(number)
        if name not in self._starts:
            self._starts[name] = line_starts(file)
            while len(self._starts) > _KEPT:
                self._starts.popitem(last=False)
        return read_records(file, self._starts[name], number * _BATCH, _BATCH)


def _json_cell(record: Any) -> Any:
    if isinstance(record, Exception):
        raise record
    cell = image_cell(record)
    if cell is None and isinstance(record, dict):  # a line among others that names a file
        cell = next((record[name] for name in (*NAMES, "file_name") if record.get(name)), None)
    return cell_bytes(cell)


class _Table:
    def __init__(self, name: str, file: BinaryIO) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._name = name
        self._parquet = pq.ParquetFile(file) if name.endswith(".parquet") else None
        if self._parquet is None:
            is_file = file.read(6) == b"ARROW1"
            file.seek(0)
            self._arrow: Any = pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file)
            self._batches = self._arrow.num_record_batches if is_file else None
        self._schema = self._parquet.schema_arrow if self._parquet else self._arrow.schema
        self.column = image_column(self._schema)

    def references(self) -> Iterator[str]:
        import pyarrow as pa
        import pyarrow.compute as pc

        kind = self._schema.field(self.column).type
        if self._parquet is not None and not pa.types.is_list(kind):
            yield from (f"{self._name}#{row}" for row in range(self._parquet.metadata.num_rows))
            return
        row = 0
        for _, column in self._pieces():
            counts = pc.list_value_length(column).to_pylist() if pa.types.is_list(kind) else [None] * len(column)
            for count in counts:
                if count is None and not pa.types.is_list(kind):
                    yield f"{self._name}#{row}"
                yield from (f"{self._name}#{row}.{item}" for item in range(count or 0))
                row += 1

    def batch(self, number: int) -> list[Any]:
        """The values of rows ``number`` · 16 and following."""
        start, values = number * _BATCH, list[Any]()
        for first, rows in self._pieces(start):
            if first + len(rows) > start:
                values += rows.slice(max(0, start - first), _BATCH - len(values)).to_pylist()
            if len(values) == _BATCH:
                break
        if not values:
            raise LookupError(start)
        return values

    def _pieces(self, start: int = 0) -> Iterator[tuple[int, Any]]:
        """The column of images in pieces with their first rows. Row groups before ``start`` are skipped."""
        if self._parquet is None:
            first = 0
            for batch in self._arrow_batches():
                column = batch.column(batch.schema.get_field_index(self.column))
                yield first, column
                first += batch.num_rows
            return
        first = 0
        for group in range(self._parquet.num_row_groups):
            rows = self._parquet.metadata.row_group(group).num_rows
            if first + rows > start:
                at = first
                for batch in self._parquet.iter_batches(_BATCH, row_groups=[group], columns=[self.column]):
                    yield at, batch.column(0)
                    at += batch.num_rows
            first += rows

    def _arrow_batches(self) -> Iterator[Any]:
        if self._batches is None:
            yield from self._arrow
        else:
            yield from (self._arrow.get_batch(number) for number in range(self._batches))


@contextmanager
def open_local(path: Any) -> Iterator[Any]:
    """A file of this machine, mapped into memory: only what is used of it is read."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as file:
        yield file


def _holds_images(kind: Any, name: str) -> bool:
    import pyarrow as pa

    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    if pa.types.is_struct(kind):
        names = {kind.field(place).name: kind.field(place).type for place in range(kind.num_fields)}
        return "bytes" in names and _is_bytes(names["bytes"])
    return _is_bytes(kind) and name.lower() in NAMES


def _is_bytes(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_null(kind))
