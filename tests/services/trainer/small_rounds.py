"""Rounds of one small shard each."""

from __future__ import annotations

from collections.abc import Sequence

from shared.contracts import GateSpec, JobSpec, RoundsSpec, Split, TrainSpec, Verdict
from shared.sets import Row, write_shard
from shared.store import Store
from tests.services.trainer.small_set import job_spec

KINDS = (
    [(Verdict.DISPARITY, Split.TRAIN)] * 3
    + [(Verdict.STUDENT_RIGHT, Split.TRAIN)] * 5
    + [(Verdict.STUDENT_RIGHT, Split.HELD_OUT)] * 2
    + [(Verdict.DUPLICATE, Split.TRAIN)] * 10
)


def spec_of(rounds: RoundsSpec, gate: GateSpec | None = None) -> JobSpec:
    return job_spec(TrainSpec(max_steps=1), gate=gate).model_copy(update={"rounds": rounds})


def write_round(store: Store, number: int, kinds: Sequence[tuple[Verdict, Split]] = KINDS) -> None:
    """One shard, which is a round's only one."""
    rows = [
        Row(
            job_id="j1",
            shard=number - 1,
            image_index=index,
            slot=0,
            image=str(index),
            image_sha256=str(index),
            task="chart" if index % 2 else "text",
            split=split,
            verdict=verdict,
            question=f"question {index} of round {number}?",
            teacher_answer="red",
            round=number,
        )
        for index, (verdict, split) in enumerate(kinds)
    ]
    write_shard(store, "j1", number - 1, rows)
