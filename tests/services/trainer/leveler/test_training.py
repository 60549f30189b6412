"""Real trainings of a tiny random student."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from services.trainer.errors import TrainingDiverged
from services.trainer.run.train import run_training
from services.trainer.run_config import EvaluationResult, read_progress
from services.trainer.worker.promotion import publish
from shared.checkpoints import CheckpointRegistry, read_tensor_table, verify_folder, verify_loadable
from shared.contracts import CardAdapter, Evaluation, LoraSpec, TaskScore, TrainSpec
from shared.errors import BadCheckpoint, InvalidInput
from shared.store import Store
from shared.vlm.loading import load_model
from tests.services.trainer.small_set import Counts, make_set, run_config

QUICK = TrainSpec(batch_size=8, max_steps=6, learning_rate=3e-3, save_every_steps=100, warmup_fraction=0.0)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_loss_falls_and_the_candidate_looks_like_its_base(
    tmp_path: Path, small_set: Store, tiny_student: Path
) -> None:
    config = run_config(tmp_path, tiny_student, QUICK.model_copy(update={"max_steps": 25}))
    result = run_training(config)
    losses = [line.loss for line in read_progress(config.progress_file)]
    assert len(losses) == 25
    assert losses[-1] < 0.5 * losses[0]
    assert result.final_loss == pytest.approx(sum(losses[-20:]) / 20, abs=1e-4)
    assert (result.disparity_pairs, result.replay_pairs) == (8, 8)
    assert read_tensor_table(config.candidate) == read_tensor_table(tiny_student)
    assert not same(weights(config.candidate), weights(tiny_student))
    for name in ("config.json", "tokenizer.json", "processor_config.json", "generation_config.json"):
        assert (config.candidate / name).read_bytes() == (tiny_student / name).read_bytes()
    verify_loadable(config.candidate)
    assert load_model(config.candidate).model.num_parameters() == load_model(tiny_student).model.num_parameters()


def test_a_base_in_bfloat16_gives_a_candidate_in_bfloat16(tmp_path: Path, small_set: Store, tiny_student: Path) -> None:
    base = tmp_path / "bf16-base"
    model = AutoModelForImageTextToText.from_pretrained(tiny_student, dtype=torch.bfloat16)
    model.save_pretrained(base)
    for path in tiny_student.iterdir():
        if not (base / path.name).exists():
            (base / path.name).write_bytes(path.read_bytes())
    config = run_config(tmp_path, base, QUICK)
    run_training(config)
    table = read_tensor_table(config.candidate)
    assert table == read_tensor_table(base)
    assert {info.dtype for info in table.values()} == {"BF16"}


def test_the_same_seed_gives_the_same_weights_and_another_does_not(
    tmp_path: Path, small_set: Store, tiny_student: Path
) -> None:
    one, two = (run_config(tmp_path, tiny_student, QUICK, folder=name) for name in ("one", "two"))
    other = run_config(tmp_path, tiny_student, QUICK, folder="other")
    other = replace(other, spec=other.spec.model_copy(update={"seed": 99}))
    for config in (one, two, other):
        run_training(config)
    assert same(weights(one.candidate), weights(two.candidate))
    assert not same(weights(one.candidate), weights(other.candidate))


def test_accumulating_two_halves_is_one_whole_batch(tmp_path: Path, small_set: Store, tiny_student: Path) -> None:
    whole = run_config(tmp_path, tiny_student, QUICK, folder="whole")
    halves = run_config(
        tmp_path, tiny_student, QUICK.model_copy(update={"batch_size": 4, "gradient_accumulation": 2}), folder="halves"
    )
    for config in (whole, halves):
        run_training(config)
    one, two = (read_progress(config.progress_file) for config in (whole, halves))
    assert [a.loss for a in one] == pytest.approx([b.loss for b in two], rel=2e-3)


def test_lora_trains_the_language_model_and_merges_into_a_plain_folder(
    tmp_path: Path, small_set: Store, tiny_student: Path
) -> None:
    spec = QUICK.model_copy(update={"method": "lora", "lora": LoraSpec(rank=4, alpha=8), "learning_rate": 1e-2})
    config = run_config(tmp_path, tiny_student, spec)
    trained = run_training(config)
    assert read_tensor_table(config.candidate) == read_tensor_table(tiny_student)
    before, after = weights(tiny_student), weights(config.candidate)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("text_model" in name and "proj" in name for name in changed)
    adapter = {path.name for path in (config.candidate / "adapter").iterdir()}
    assert adapter == {"adapter_config.json", "adapter_model.safetensors"}
    registry = CheckpointRegistry(small_set, config.spec.student)
    measured = EvaluationResult(Evaluation(overall=TaskScore(questions=1), tasks={}))
    card = registry.card(publish(registry, config, trained, measured))
    assert card.adapter == CardAdapter(base="base", rank=4)
    verify_folder(registry.local(card.version), card)
    (registry.local(card.version) / "adapter" / "adapter_model.safetensors").write_bytes(b"other")
    with pytest.raises(BadCheckpoint, match="adapter_model"):
        verify_folder(registry.local(card.version), card)


def test_a_frozen_vision_tower_does_not_change_and_cached_features_change_nothing(
    tmp_path: Path, small_set: Store, tiny_student: Path
) -> None:
    spec = QUICK.model_copy(update={"freeze_vision": True})
    cached = run_config(tmp_path, tiny_student, spec, folder="cached")
    plain = replace(run_config(tmp_path, tiny_student, spec, folder="plain"), cache_bytes=0)
    for config in (cached, plain):
        run_training(config)
    assert not (plain.folder / "features").exists()
    before, after, general = weights(tiny_student), weights(cached.candidate), weights(plain.candidate)
    frozen = {name for name in before if "vision_model" in name or "connector" in name}
    assert frozen
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    assert any(not torch.equal(before[name], after[name]) for name in before.keys() - frozen)
    assert all(torch.allclose(after[name], general[name], atol=1e-3) for name in before)


@pytest.mark.slow
def test_bfloat16_autocast_trains_too(tmp_path: Path, small_set: Store, tiny_student: Path) -> None:
    spec = QUICK.model_copy(update={"precision": "bf16", "max_steps": 20})
    config = run_config(tmp_path, tiny_student, spec)
    run_training(config)
    losses = [line.loss for line in read_progress(config.progress_file)]
    assert losses[-1] < 0.7 * losses[0]


def test_gradient_checkpointing_changes_nothing_but_the_memory(
    tmp_path: Path, small_set: Store, tiny_student: Path
) -> None:
    plain = run_config(tmp_path, tiny_student, QUICK, folder="plain")
    again = run_config(
        tmp_path, tiny_student, QUICK.model_copy(update={"gradient_checkpointing": True}), folder="again"
    )
    for config in (plain, again):
        run_training(config)
    one, two = weights(plain.candidate), weights(again.candidate)
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)


def test_by_length_it_learns_as_well(tmp_path: Path, small_set: Store, tiny_student: Path) -> None:
    spec = QUICK.model_copy(update={"length_bucketing": True, "max_steps": 25})
    config = run_config(tmp_path, tiny_student, spec)
    run_training(config)
    losses = [line.loss for line in read_progress(config.progress_file)]
    assert losses[-1] < 0.5 * losses[0]


def test_progress_says_what_a_training_takes(tmp_path: Path, small_set: Store, tiny_student: Path) -> None:
    config = replace(run_config(tmp_path, tiny_student, QUICK), report_to=("tensorboard",))
    run_training(config)
    last = read_progress(config.progress_file)[-1]
    assert last.memory_bytes is not None
    assert 2**27 < last.memory_bytes < 2**35
    assert last.gradient_norm is not None
    assert 0 < last.gradient_norm < 100
    (events,) = config.curves.iterdir()
    written = events.read_bytes()
    loss = b"\n\ntrain/loss"  # with its length of 10, which tells it from loss_answer
    names = (loss, b"train/loss_answer", b"train/memory_bytes", b"train/samples_per_second", b"train/grad_norm")
    assert all(name in written for name in names)


def test_a_gradient_that_overflows_is_never_applied(tmp_path: Path, small_set: Store, tiny_student: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_student, broken)
    tensors = weights(tiny_student)
    name = next(name for name in tensors if name.endswith("embed_tokens.weight"))
    save_file({**tensors, name: tensors[name] * 1e22}, broken / "model.safetensors", metadata={"format": "pt"})
    config = run_config(tmp_path, broken, QUICK.model_copy(update={"save_every_steps": 1}))
    with pytest.raises(TrainingDiverged, match=r"norm became (inf|nan) at step 1"):
        run_training(config)
    assert not list(config.step_folder.glob("checkpoint-*"))


def test_a_set_of_one_row(tmp_path: Path, store: Store, tiny_student: Path) -> None:
    make_set(store, "j1", tmp_path / "images", Counts(disparity=1, replay={}, held_out=0))
    config = run_config(tmp_path, tiny_student, TrainSpec(batch_size=4, epochs=2, learning_rate=1e-3))
    result = run_training(config)
    assert (result.disparity_pairs, result.replay_pairs, result.steps) == (1, 0, 1)


def test_a_learning_rate_that_explodes_is_reported_not_saved(
    tmp_path: Path, small_set: Store, tiny_student: Path
) -> None:
    spec = QUICK.model_copy(update={"learning_rate": 1.0, "max_steps": 60, "max_grad_norm": 1e9, "save_every_steps": 5})
    config = run_config(tmp_path, tiny_student, spec)
    with pytest.raises(TrainingDiverged, match="learning_rate"):
        run_training(config)
    assert not config.candidate.exists()


def test_an_image_that_changed_is_refused_by_name(tmp_path: Path, small_set: Store, tiny_student: Path) -> None:
    path = sorted((tmp_path / "images").iterdir())[0]
    path.write_bytes(sorted((tmp_path / "images").iterdir())[1].read_bytes())
    with pytest.raises(InvalidInput, match=path.name):
        run_training(run_config(tmp_path, tiny_student, QUICK))


def test_an_image_that_vanished_is_found_before_the_first_step(
    tmp_path: Path, small_set: Store, tiny_student: Path
) -> None:
    path = sorted((tmp_path / "images").iterdir())[0]
    path.unlink()
    config = run_config(tmp_path, tiny_student, QUICK)
    with pytest.raises(InvalidInput, match="1 image"):
        run_training(config)
    assert not config.progress_file.exists()
