"""The counts of a shard: the same from its rows before and after they are written."""

from __future__ import annotations

from hypothesis import given

from shared.sets import Row, read_set, read_shard, summarise, tally, to_pair, write_shard
from shared.store import Store
from tests.shared.sets.rows import one_shard


@given(one_shard)
def test_what_is_written_is_what_was_counted(found: list[Row]) -> None:
    store = Store("memory://sets")
    store.delete("jobs")
    assert write_shard(store, "j", 0, found) == tally(found) == summarise(read_shard(store, "j", 0))
    pairs = [to_pair(row) for row in read_set(store, "j").to_pylist()]
    assert {pair.pair_id for pair in pairs} == {row.pair_id for row in found}
