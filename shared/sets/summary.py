"""The counts of a shard: all that a job's state keeps of its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from shared.contracts import Split, Verdict
from shared.discrepancies import NAMES, Histogram, histogram, merged
from shared.sets.schema import Row
from shared.state import ShardResult


def summarise(table: pa.Table) -> ShardResult:
    """The counts of a shard, from its rows alone."""
    kept = pc.and_(pc.equal(table["verdict"], str(Verdict.DISPARITY)), pc.equal(table["split"], str(Split.TRAIN)))
    return ShardResult(
        images=len(pc.unique(table["image_index"])),
        verdicts=_counted(table["verdict"].to_pylist()),
        causes=_counted(table["cause"].to_pylist()),
        prompt_tokens=int(pc.sum(table["prompt_tokens"]).as_py() or 0),
        completion_tokens=int(pc.sum(table["completion_tokens"]).as_py() or 0),
        saved_tokens=int(pc.sum(table["saved_tokens"]).as_py() or 0),
        train_disparity=int(pc.sum(kept).as_py() or 0),
        notes=_notes(zip(table["image_index"].to_pylist(), table["image_note"].to_pylist(), strict=True)),
        gaps=_gaps({name: table[f"{name}_gap"].to_pylist() for name in NAMES}),
    )


def tally(rows: Iterable[Row]) -> ShardResult:
    """The same counts for rows that are not written yet."""
    chosen = list(rows)
    return ShardResult(
        images=len({row.image_index for row in chosen}),
        verdicts=_counted(row.verdict for row in chosen),
        causes=_counted(row.cause for row in chosen),
        prompt_tokens=sum(row.prompt_tokens for row in chosen),
        completion_tokens=sum(row.completion_tokens for row in chosen),
        saved_tokens=sum(row.saved_tokens for row in chosen),
        train_disparity=sum(row.verdict is Verdict.DISPARITY and row.split is Split.TRAIN for row in chosen),
        notes=_notes((row.image_index, row.image_note) for row in chosen),
        gaps=_gaps({name: [getattr(row, f"{name}_gap") for row in chosen] for name in NAMES}),
    )


def _counted(values: Iterable[str | None]) -> dict[str, int]:
    """How often each value occurs, without those that are missing."""
    return {str(value): count for value, count in sorted(Counter(filter(None, values)).items())}


def _notes(rows: Iterable[tuple[int, str | None]]) -> dict[str, int]:
    """Images by their note."""
    return dict(sorted(Counter(note for _, note in set(rows) if note).items()))


def _gaps(columns: Mapping[str, Iterable[float | None]]) -> dict[str, Histogram]:
    return merged([{name: histogram(values) for name, values in columns.items()}])
