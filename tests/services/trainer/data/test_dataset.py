"""From the rows of a set to samples."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pytest

from services.trainer.data.dataset import TrainingSet, check_images, read_held_out, read_training_set
from shared.contracts import Split, Verdict
from shared.errors import InvalidInput
from shared.sets import Row, read_set, write_shard
from shared.store import Store
from tests.services.trainer.full_set import EVERYTHING, make_full_set
from tests.services.trainer.small_set import Counts, make_set


def row(index: int, verdict: Verdict, split: Split, *, task: str = "chart", answer: str | None = "red") -> Row:
    return Row(
        job_id="j1",
        shard=0,
        image_index=index,
        slot=0,
        image=f"/images/{index}.png",
        image_sha256="0" * 64,
        task=task,
        split=split,
        verdict=verdict,
        question=f"question {index}?" if answer else None,
        teacher_answer=answer,
    )


def test_held_out_images_are_never_trained_on(tmp_path: Path, store: Store) -> None:
    make_set(store, "j1", tmp_path / "images", Counts(disparity=6, replay={"text": 3}, held_out=5))
    data, held_out = read_training_set(store, "j1"), read_held_out(store, "j1")
    assert (data.disparity, data.replay, len(held_out)) == (6, 3, 5)
    assert not {s.image for s in data.samples} & {s.image for s in held_out}


def test_only_disparity_and_student_right_are_learned_from(store: Store) -> None:
    rows = [
        row(i, verdict, Split.TRAIN, answer=None if "un" in verdict else "red") for i, verdict in enumerate(Verdict)
    ]
    write_shard(store, "j1", 0, rows)
    data = read_training_set(store, "j1")
    assert [s.is_replay for s in data.samples] == [False, True]
    assert data.samples[0].pair_id != data.samples[1].pair_id


def test_replay_pools_are_one_a_task(store: Store) -> None:
    tasks = ["text", "know", "text", "chart", "know"]
    rows = [row(i, Verdict.STUDENT_RIGHT, Split.TRAIN, task=task) for i, task in enumerate(tasks)]
    write_shard(store, "j1", 0, [*rows, row(9, Verdict.DISPARITY, Split.TRAIN)])
    data = read_training_set(store, "j1")
    named = [{data[index].task for index in pool} for pool in data.replay_pools()]
    assert named == [{"chart"}, {"know"}, {"text"}]
    assert [len(pool) for pool in data.replay_pools()] == [1, 2, 2]
    assert all(data[index].is_replay for pool in data.replay_pools() for index in pool)


def test_an_empty_set_has_nothing_to_learn(store: Store) -> None:
    data = read_training_set(store, "j1")
    assert (len(data), data.disparity) == (0, 0)


def test_weights_are_of_the_disparity_pairs_alone(tmp_path: Path, tiny_student: Path, store: Store) -> None:
    make_full_set(store, tiny_student, tmp_path / "images")
    data: TrainingSet = read_training_set(store, "j1").weighted(EVERYTHING)
    weighed = [sample.weight for sample in data.samples[: data.disparity]]
    assert sum(weighed) / len(weighed) == pytest.approx(1.0)
    assert len(set(weighed)) > 1
    assert {sample.weight for sample in data.samples[data.disparity :]} == {1.0}
    assert pc.all(pc.is_null(read_set(store, "plain")["rationale"])).as_py()


@pytest.mark.parametrize("name", ["{}/a.png", "{}/t.parquet#3", "{}/t.arrow#0.2", "{}/t.jsonl#9"])
def test_images_that_are_gone_are_found_before_the_training(tmp_path: Path, store: Store, name: str) -> None:
    make_set(store, "j1", tmp_path / "images", named=lambda _, path: name.format(tmp_path))
    samples = read_training_set(store, "j1").samples
    with pytest.raises(InvalidInput, match=f"1 image.* no longer exist. The first is {name.format(tmp_path)}"):
        check_images(samples)
    (tmp_path / name.format(".").partition("#")[0]).touch()
    check_images(samples)
