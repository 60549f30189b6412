"""Sets: deterministic files, the first writer wins, and a digest of what the rows say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.sets import Row, read_set, set_digest, shard_key, shard_numbers, write_shard
from shared.store import Store
from tests.shared.sets.rows import one_shard, row


@given(one_shard, st.randoms())
def test_the_order_of_work_changes_no_byte(found: list[Row], random: object) -> None:
    store = Store("memory://bytes")
    store.delete("jobs")
    write_shard(store, "a", 0, found)
    write_shard(store, "b", 0, list(reversed(found)))
    assert store.read(shard_key("a", 0)) == store.read(shard_key("b", 0))


def test_the_first_writer_wins(tmp_store_url: str) -> None:
    store = Store(tmp_store_url)
    first = write_shard(store, "j", 0, [row(0), row(1)])
    assert write_shard(store, "j", 0, [row(0)]) == first
    assert read_set(store, "j").num_rows == 2


def test_the_digest_is_of_what_the_rows_say(tmp_store_url: str) -> None:
    store = Store(tmp_store_url)
    write_shard(store, "whole", 0, [row(0), row(1)])
    write_shard(store, "split", 0, [row(0, job_id="x", prompt_tokens=9)])
    write_shard(store, "split", 1, [row(1, shard=1)])
    write_shard(store, "other", 0, [row(0), row(1, teacher_answer="7")])
    assert shard_numbers(store, "split") == [0, 1]
    assert set_digest(store, "whole") == set_digest(store, "split") != set_digest(store, "other")
