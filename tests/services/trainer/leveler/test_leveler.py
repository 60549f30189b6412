"""Real trainings of a tiny random student with every term of the alignment loss."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from services.trainer.run.train import run_training
from services.trainer.run_config import RunConfig, read_progress
from shared.contracts import LossSpec
from shared.errors import InvalidInput
from shared.sets import Row, read_set, write_shard
from shared.store import Store
from tests.services.trainer.full_set import EVERYTHING, config_for, make_full_set
from tests.services.trainer.resumption import check_resumed, saved_progress
from tests.services.trainer.small_set import Counts


@pytest.fixture
def full_set(tmp_path: Path, tiny_student: Path) -> Store:
    store = Store((tmp_path / "store").as_uri())
    make_full_set(store, tiny_student, tmp_path / "images")
    return store


def weights(config: RunConfig) -> dict[str, torch.Tensor]:
    return load_file(config.candidate / "model.safetensors")


@pytest.mark.parametrize("freeze_vision", [False, True])
def test_all_terms_together_are_trained_on_and_reported(
    tmp_path: Path, full_set: Store, tiny_student: Path, freeze_vision: bool
) -> None:
    config = config_for(tmp_path, tiny_student, EVERYTHING, freeze_vision=freeze_vision, max_steps=15)
    result = run_training(config)
    lines = read_progress(config.progress_file)
    assert result.loss_weights == {"answer": 1.0, "consistency": 0.5, "rationale": 0.5, "attention": 0.5}
    assert all(lines[0].terms[name] > 0 for name in result.loss_weights)
    for name in ("answer", "rationale"):
        assert lines[-1].terms[name] < lines[0].terms[name]


def test_a_term_that_is_off_changes_nothing(tmp_path: Path, full_set: Store, tiny_student: Path) -> None:
    plain = config_for(tmp_path, tiny_student, LossSpec(preset="replay"), "plain")
    off = config_for(tmp_path, tiny_student, LossSpec(preset="discrepancy", weigh_by=[], consistency=0.0), "off")
    on = config_for(tmp_path, tiny_student, LossSpec(preset="replay", rationale=0.5), "on")
    for config in (plain, off, on):
        run_training(config)
    same = [torch.equal(one, weights(off)[name]) for name, one in weights(plain).items()]
    assert all(same)
    assert not all(torch.equal(one, weights(on)[name]) for name, one in weights(plain).items())


@pytest.mark.slow
def test_a_resumed_training_with_all_terms_ends_the_same(tmp_path: Path, full_set: Store, tiny_student: Path) -> None:
    whole = config_for(tmp_path, tiny_student, EVERYTHING, "whole")
    run_training(whole)
    halted = config_for(tmp_path, tiny_student, EVERYTHING, "halted")
    run_training(halted)
    # as if it had been killed after the second step
    for path in (halted.step_folder / "checkpoint-4").rglob("*"):
        if path.is_file():
            path.unlink()
    kept = saved_progress(halted.folder)
    assert len(kept) == 2
    run_training(halted)
    check_resumed(halted.folder, kept, 4)
    assert all(torch.equal(one, weights(halted)[name]) for name, one in weights(whole).items())


def test_a_set_with_one_row_trains_whatever_is_on(tmp_path: Path, tiny_student: Path) -> None:
    store = Store((tmp_path / "store").as_uri())
    make_full_set(store, tiny_student, tmp_path / "images", counts=Counts(1, {}, 0))
    config = config_for(tmp_path, tiny_student, EVERYTHING)
    assert run_training(config).disparity_pairs == 1


def test_unanimous_votes_on_one_pair_that_the_student_left_unanswered_train(tmp_path: Path, tiny_student: Path) -> None:
    """There is one candidate then, so nothing to compare; but the job measured what consistency needs."""
    store = Store((tmp_path / "store").as_uri())
    make_full_set(store, tiny_student, tmp_path / "images", "full", Counts(1, {}, 0))
    values = read_set(store, "full").to_pylist()[0]
    answer = values["teacher_answer"]
    changes = {"job_id": "j1", "votes": (answer,) * 3, "vote_share": 1.0, "student_answer": "", "teacher_top": None}
    write_shard(store, "j1", 0, [Row(**{name: value for name, value in values.items() if name != "pair_id"} | changes)])
    result = run_training(config_for(tmp_path, tiny_student, LossSpec(preset="discrepancy", rationale=0)))
    assert result.disparity_pairs == 1


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (LossSpec(rationale=0.1), "train.loss.rationale is on, but no disparity pair"),
        (LossSpec(attention=0.1), "train.loss.attention is on, but no disparity pair"),
        (LossSpec(consistency=0.1), "train.loss.consistency is on, but no disparity pair"),
        (LossSpec(weigh_by=["confidence"]), "weigh_by names confidence, but no disparity pair"),
    ],
)
def test_a_term_without_anything_to_learn_from_is_refused_before_the_first_step(
    tmp_path: Path, small_set: Store, tiny_student: Path, loss: LossSpec, words: str
) -> None:
    config = config_for(tmp_path, tiny_student, loss)
    with pytest.raises(InvalidInput, match=words):
        run_training(config)
    assert not config.progress_file.exists()


SIZES = ((96, 96), (100, 40), (30, 70))


@pytest.mark.slow
def test_every_term_trains(tmp_path: Path, store: Store, base: Path) -> None:
    make_full_set(store, base, tmp_path / "images", counts=Counts(4, {}, 0, sizes=SIZES))
    config = config_for(tmp_path, base, EVERYTHING, batch_size=4, max_steps=4, warmup_fraction=0.0, freeze_vision=True)
    result = run_training(config)
    lines = read_progress(config.progress_file)
    assert all(lines[0].terms[name] > 0 for name in result.loss_weights)
    assert lines[-1].loss < lines[0].loss
