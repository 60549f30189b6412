"""Every model family trains: tiny random models of the real classes on pictures of several sizes and shapes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForImageTextToText

from services.trainer.data.collator import Collator
from services.trainer.data.dataset import Sample
from services.trainer.leveler.models import add_lora, save_candidate, training_dtype
from services.trainer.run.train import run_training
from services.trainer.run_config import RunConfig, read_progress
from shared.checkpoints import read_tensor_table
from shared.contracts import LoraSpec, TrainSpec
from shared.literal import marks_of
from shared.sets import read_set
from shared.store import Store
from shared.vlm.generation import generate
from shared.vlm.loading import LoadedModel, load_model, load_processor
from shared.vlm.prompting import Prompt, question_prompt
from shared.vlm.sampling import Sampling
from shared.vqa.tasks import load_profiles
from tests.scoring import score_answers
from tests.services.trainer.small_set import QUESTION, TASKS_FILE, Counts, make_set, run_config
from tests.tiny_families import seeded

pytestmark = pytest.mark.slow

PAIRS = 4
SIZES = ((96, 96), (100, 40), (30, 70))
FULL = TrainSpec(batch_size=PAIRS, max_steps=6, learning_rate=3e-3, warmup_fraction=0.0, save_every_steps=100)
LORA = FULL.model_copy(update={"method": "lora", "lora": LoraSpec(rank=4, alpha=8), "learning_rate": 2e-2})
FROZEN = FULL.model_copy(update={"freeze_vision": True})
# Outside of the language model by name, in memory and on disk.
VISION = ("vision", "visual", "connector", "projector", "mlp1", "image_newline")


@pytest.fixture
def pairs(tmp_path: Path, store: Store) -> Store:
    make_set(store, "j1", tmp_path / "images", Counts(disparity=PAIRS, replay={}, held_out=0, sizes=SIZES))
    return store


def questions(loaded: LoadedModel, store: Store) -> tuple[list[Prompt], list[str]]:
    """The set's pairs as serving would be asked them, with the answers to learn."""
    rows = read_set(store, "j1").to_pylist()
    text = load_profiles(TASKS_FILE)["chart"].answer_prompt(QUESTION)
    prompts = [question_prompt(loaded, Image.open(row["image"]).convert("RGB"), text) for row in rows]
    return prompts, [row["teacher_answer"] for row in rows]


def loss(folder: Path, store: Store) -> float:
    """What a step over all pairs should report, by the scores that serving gives."""
    loaded = load_model(folder)
    prompts, answers = questions(loaded, store)
    scores = score_answers(loaded, prompts, [[answer] for answer in answers])
    return -sum(row[0].mean for row in scores) / len(scores)


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def changed(config: RunConfig) -> set[str]:
    before, after = weights(config.base_folder), weights(config.candidate)
    return {name for name in before if not torch.equal(before[name], after[name])}


def trained(config: RunConfig, store: Store) -> None:
    """Train, and check what every training must do: begin at what serving scores, learn, leave a whole checkpoint."""
    run_training(config)
    losses = [line.loss for line in read_progress(config.progress_file)]
    assert losses[0] == pytest.approx(loss(config.base_folder, store), abs=1e-3)
    assert loss(config.candidate, store) < 0.9 * losses[0]
    assert read_tensor_table(config.candidate) == read_tensor_table(config.base_folder)


def test_answers_that_spell_the_familys_own_tokens_are_learned(base: Path, tmp_path: Path, store: Store) -> None:
    tokenizer = load_processor(base).tokenizer
    marks = marks_of(tokenizer)
    answers = [f"the {marks[-1]} tag", tokenizer.eos_token, "".join(marks[:4]), f"red{tokenizer.eos_token}\n{marks[1]}"]
    counts = Counts(disparity=PAIRS, replay={}, held_out=0, sizes=SIZES)
    make_set(store, "j1", tmp_path / "images", counts, answers=answers)
    trained(run_config(tmp_path, base, FULL), store)


def only_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, batches hold features in place of pixels, or the test fails."""
    collate = Collator.__call__

    def checked(self: Collator, samples: list[Sample]) -> dict[str, Any]:
        batch = collate(self, samples)
        assert "image_features" in batch
        assert not any(name.startswith("pixel_") for name in batch)
        return batch

    monkeypatch.setattr(Collator, "__call__", checked)


def plain_answers(loaded: LoadedModel, folder: Path, prompts: list[Prompt]) -> list[list[int]]:
    """Ids by the library alone."""
    model = AutoModelForImageTextToText.from_pretrained(folder)
    said = []
    for prompt in prompts:
        inputs = loaded.processor(
            text=[prompt.text], images=[list(prompt.images)], return_tensors="pt", add_special_tokens=False
        )
        output = model.generate(**inputs, max_new_tokens=6, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        said.append([token for token in output.tolist() if token not in loaded.eos_ids])
    return said


def test_a_full_training_learns_and_serves_as_it_was_trained(tmp_path: Path, pairs: Store, base: Path) -> None:
    config = run_config(tmp_path, base, FULL)
    trained(config, pairs)
    assert any(mark in name for mark in VISION for name in changed(config))
    loaded = load_model(config.candidate)
    prompts, _ = questions(loaded, pairs)
    answers = generate(loaded, prompts, [Sampling(6)] * PAIRS)
    assert [[t.id for t in a.tokens] for a in answers] == plain_answers(loaded, config.candidate, prompts)


def test_lora_learns_in_the_language_model_only(tmp_path: Path, pairs: Store, base: Path) -> None:
    config = run_config(tmp_path, base, LORA)
    trained(config, pairs)
    assert changed(config)
    assert not any(mark in name for mark in VISION for name in changed(config))


@pytest.mark.parametrize("freeze", [False, True], ids=["pixels", "features"])
def test_lora_on_a_base_in_bfloat16_stays_in_bfloat16(tmp_path: Path, pairs: Store, base: Path, freeze: bool) -> None:
    half = tmp_path / "half"
    shutil.copytree(base, half)
    AutoModelForImageTextToText.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(half)
    spec = LORA.model_copy(update={"precision": "bf16", "freeze_vision": freeze})
    assert training_dtype(half, spec) == "bfloat16"
    config = run_config(tmp_path, half, spec)
    run_training(config)
    losses = [line.loss for line in read_progress(config.progress_file)]
    assert losses[0] == pytest.approx(loss(half, pairs), abs=0.1)
    assert loss(config.candidate, pairs) < 0.9 * losses[0]
    assert {info.dtype for info in read_tensor_table(config.candidate).values()} == {"BF16"}


NAMES = {
    "llava": [("vision_tower.", "vision_tower.vision_model.")],
    "llava_onevision": [("vision_tower.", "vision_tower.vision_model.")],
    "qwen2_vl": [("visual.", "model.visual."), ("model.", "model.language_model.")],
    "qwen2_5_vl": [("visual.", "model.visual."), ("model.", "model.language_model.")],
}
"""Other names that published checkpoints of a family have for its tensors, by their beginnings."""


@pytest.mark.parametrize("family", NAMES)
@pytest.mark.parametrize("spec", [FULL, LORA], ids=["full", "lora"])
def test_a_candidate_has_the_names_that_its_base_has(
    family: str, spec: TrainSpec, tmp_path: Path, pairs: Store
) -> None:
    base = seeded(family, tmp_path / "base")
    renamed = {}
    for name, tensor in weights(base).items():
        old, new = next((rule for rule in NAMES[family] if name.startswith(rule[0])), ("", ""))
        renamed[new + name.removeprefix(old)] = tensor
    assert renamed.keys() != weights(base).keys()
    save_file(renamed, base / "model.safetensors", metadata={"format": "pt"})
    trained(run_config(tmp_path, base, spec), pairs)


def test_only_frozen_weights_stored_so_are_trained_in_bfloat16(tiny_student: Path) -> None:
    half = LORA.model_copy(update={"precision": "bf16"})
    assert training_dtype(tiny_student, half) == "float32"
    assert training_dtype(tiny_student, LORA) == "float32"
    assert training_dtype(tiny_student, FULL) == "float32"


def test_a_merged_adapter_answers_as_it_did_before_it_was_saved(tmp_path: Path, pairs: Store, base: Path) -> None:
    loaded = load_model(base)
    prompts, _ = questions(loaded, pairs)
    model = add_lora(loaded.model, LoraSpec(rank=4, alpha=8), seed=0)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    adapted = generate(loaded, prompts, [Sampling(6)] * PAIRS)
    save_candidate(model, base, tmp_path / "merged")
    saved = generate(load_model(tmp_path / "merged"), prompts, [Sampling(6)] * PAIRS)
    unadapted = generate(load_model(base), prompts, [Sampling(6)] * PAIRS)
    assert [a.text for a in saved] == [a.text for a in adapted]
    assert [a.text for a in unadapted] != [a.text for a in adapted]


def test_a_frozen_vision_tower_trains_the_same_from_cached_features(
    tmp_path: Path, pairs: Store, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = run_config(tmp_path, base, FROZEN, folder="cached")
    general = replace(run_config(tmp_path, base, FROZEN, folder="general"), cache_bytes=0)
    run_training(general)
    if "qwen3_vl" not in base.name:  # its tower feeds inner layers too
        only_features(monkeypatch)
    trained(cached, pairs)
    assert not any(mark in name for mark in VISION for name in changed(cached))
    one, other = weights(cached.candidate), weights(general.candidate)
    assert all(torch.allclose(one[name], other[name], atol=1e-3) for name in one)
