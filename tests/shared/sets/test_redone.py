"""Rows are replaced in a published shard, and all others stay as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from shared.contracts import Split, Verdict
from shared.sets import Row, read_shard, shard_key, write_shard
from shared.sets.redone import redo_of, replace_rows
from shared.store import Store

AGAIN = [Verdict.REFUSED]


def row(index: int, verdict: Verdict, **values: Any) -> Row:
    return Row(
        **{
            **{"job_id": "job", "shard": 0, "image_index": index, "slot": 0, "image": f"/{index}.png"},
            **{"image_sha256": "0" * 64, "task": "chart", "split": Split.TRAIN, "verdict": verdict, "reason": ""},
            **{"teacher_model": "teacher", "prompt_tokens": 5, "completion_tokens": 2},
            **values,
        }
    )


def published(tmp_path: Path) -> tuple[Store, pa.Table]:
    store = Store(f"file://{tmp_path}")
    maps = {"teacher_attention": (0.1, 0.9), "vote_share": 1 / 3, "votes": ("a", "b")}
    rows = [row(0, Verdict.DISPARITY, **maps), row(1, Verdict.REFUSED), row(2, Verdict.STUDENT_RIGHT)]
    write_shard(store, "job", 0, rows)
    return store, read_shard(store, "job", 0)


def test_rows_are_replaced_in_their_place_and_the_others_stay(tmp_path: Path) -> None:
    store, old = published(tmp_path)
    assert redo_of(store, "job", 0) == 0
    result = replace_rows(store, "job", 0, old, [row(1, Verdict.DISPARITY, question="what?")], AGAIN, 1)
    assert result.verdicts == {"disparity": 2, "student_right": 1}
    new = read_shard(store, "job", 0)
    assert redo_of(store, "job", 0) == 1
    assert new.column("image_index").to_pylist() == [0, 1, 2]
    assert new.take([0, 2]).to_pylist() == old.take([0, 2]).to_pylist()
    assert new.column("question").to_pylist() == [None, "what?", None]
    assert new.column("prompt_tokens").to_pylist() == [5, 10, 5]


def test_a_request_is_answered_once(tmp_path: Path) -> None:
    store, old = published(tmp_path)
    replace_rows(store, "job", 0, old, [row(1, Verdict.DISPARITY)], AGAIN, 2)
    stored = store.read(shard_key("job", 0))
    for late in (1, 2):
        result = replace_rows(store, "job", 0, old, [row(1, Verdict.UNPARSABLE)], AGAIN, late)
        assert result.verdicts == {"disparity": 2, "student_right": 1}
    assert store.read(shard_key("job", 0)) == stored
