"""Sets: deterministic files, counts from rows alone, and a digest of what the rows say."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from shared.contracts import Split, Verdict
from shared.sets import (
    Row,
    read_set,
    read_shard,
    set_digest,
    shard_key,
    shard_numbers,
    summarise,
    tally,
    to_pair,
    write_shard,
)
from shared.store import Store

rows = st.builds(
    Row,
    job_id=st.just("j"),
    shard=st.just(0),
    image_index=st.integers(0, 50),
    slot=st.integers(0, 3),
    image=st.text(min_size=1, max_size=9),
    image_sha256=st.none() | st.just("ab"),
    task=st.sampled_from(["chart", "text"]),
    split=st.sampled_from(Split),
    verdict=st.sampled_from(Verdict),
    question=st.none() | st.text(max_size=20),
    teacher_answer=st.none() | st.text(max_size=9),
    votes=st.lists(st.text(max_size=5), max_size=3).map(tuple),
    vote_share=st.none() | st.floats(0, 1),
    prompt_tokens=st.integers(0, 2**40),
    saved_tokens=st.integers(0, 2**40),
)
one_shard = st.lists(rows, max_size=12, unique_by=lambda row: (row.image_index, row.task, row.slot))


@given(one_shard)
def test_what_is_written_is_what_was_counted(found: list[Row]) -> None:
    store = Store("memory://sets")
    store.delete("jobs")
    assert write_shard(store, "j", 0, found) == tally(found) == summarise(read_shard(store, "j", 0))
    pairs = [to_pair(row) for row in read_set(store, "j").to_pylist()]
    assert {pair.pair_id for pair in pairs} == {row.pair_id for row in found}


@given(one_shard, st.randoms())
def test_the_order_of_work_changes_no_byte(found: list[Row], random: object) -> None:
    store = Store("memory://bytes")
    store.delete("jobs")
    write_shard(store, "a", 0, found)
    write_shard(store, "b", 0, list(reversed(found)))
    assert store.read(shard_key("a", 0)) == store.read(shard_key("b", 0))


def row(index: int, **changes: object) -> Row:
    base = Row("j", 0, index, 0, f"/pile/{index}.png", "ab", "chart", Split.TRAIN, Verdict.DISPARITY)
    return replace(replace(base, question="how many?", teacher_answer=str(index)), **changes)  # type: ignore[arg-type]


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
