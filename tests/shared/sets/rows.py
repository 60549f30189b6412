"""Rows of a set for tests: any that Hypothesis finds, and one with chosen fields."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from shared.contracts import Cause, Split, Verdict
from shared.sets import Row

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
    cause=st.none() | st.sampled_from(Cause),
    votes=st.lists(st.text(max_size=5), max_size=3).map(tuple),
    vote_share=st.none() | st.floats(0, 1),
    prompt_tokens=st.integers(0, 2**40),
    saved_tokens=st.integers(0, 2**40),
)
one_shard = st.lists(rows, max_size=12, unique_by=lambda row: (row.image_index, row.task, row.slot))


def row(index: int, **changes: object) -> Row:
    base = Row("j", 0, index, 0, f"/pile/{index}.png", "ab", "chart", Split.TRAIN, Verdict.DISPARITY)
    return replace(replace(base, question="how many?", teacher_answer=str(index)), **changes)  # type: ignore[arg-type]
