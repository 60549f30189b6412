"""A base that cannot be trained, saved or asked is refused before the first step; what can be handled is trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from services.trainer.run.train import run_training
from shared.contracts import LoraSpec, TrainSpec
from shared.errors import BadCheckpoint, InvalidInput
from shared.store import Store
from shared.vlm.loading import load_model
from tests.services.trainer.small_set import run_config

ONE_STEP = TrainSpec(batch_size=4, max_steps=1, learning_rate=3e-3, save_every_steps=1)
EMBEDDING = "model.text_model.embed_tokens.weight"


def edit(folder: Path, name: str, **values: Any) -> None:
    path = folder / name
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | values))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture
def base(tmp_path: Path, tiny_student: Path) -> Path:
    return Path(shutil.copytree(tiny_student, tmp_path / "base"))


GENERATION = [
    {"_from_model_config": True, "do_sample": False, "temperature": 1e-06, "eos_token_id": 3, "pad_token_id": 0},
    {"do_sample": False, "top_p": 0.5, "top_k": 3, "eos_token_id": [3, 2]},
    {"num_beams": 1, "length_penalty": 2.0, "early_stopping": True, "eos_token_id": 3},
    {"pad_token_id": -1, "eos_token_id": 3},
    {"return_dict_in_generate": False, "output_scores": True, "eos_token_id": 3},
]


@pytest.mark.parametrize("generation", GENERATION)
def test_a_generation_config_that_the_library_would_not_save_is_copied(
    tmp_path: Path, small_set: Store, base: Path, generation: dict[str, Any]
) -> None:
    (base / "generation_config.json").write_text(json.dumps(generation))
    config = run_config(tmp_path, base, ONE_STEP)
    assert run_training(config).changed_tensors
    assert json.loads((config.candidate / "generation_config.json").read_text()) == generation
    load_model(config.candidate)


def test_one_step_trains_and_keeps_what_the_base_has_besides(tmp_path: Path, small_set: Store, base: Path) -> None:
    edit(base, "tokenizer_config.json", pad_token=None)
    (base / "additional_chat_templates").mkdir()
    (base / "additional_chat_templates" / "rag.jinja").write_text("{{ messages }}")
    edit_weights(base, lambda held: held.update(position_ids=torch.arange(4)))
    save_file({"x": torch.zeros(1)}, base / "consolidated.safetensors")
    config = run_config(tmp_path, base, ONE_STEP.model_copy(update={"warmup_fraction": 1.0}))
    assert run_training(config).changed_tensors
    for name in ("chat_template.jinja", "additional_chat_templates/rag.jinja"):
        assert (config.candidate / name).read_bytes() == (base / name).read_bytes()
    assert not (config.candidate / "consolidated.safetensors").exists()


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_rate_too_small_for_the_stored_weights_changes_nothing(
    tmp_path: Path, small_set: Store, base: Path, method: Any
) -> None:
    train = ONE_STEP.model_copy(update={"learning_rate": 1e-60, "method": method})
    assert run_training(run_config(tmp_path, base, train)).changed_tensors == 0


def without_a_weight(base: Path) -> None:
    edit_weights(base, lambda held: held.pop("model.connector.modality_projection.proj.weight"))


def with_fewer_embeddings(base: Path) -> None:
    edit_weights(base, lambda held: held.update({EMBEDDING: held[EMBEDDING][:100].clone()}))
    config = json.loads((base / "config.json").read_text())
    config["text_config"]["vocab_size"] = 100
    (base / "config.json").write_text(json.dumps(config))


def with_own_code(base: Path) -> None:
    edit(base, "config.json", model_type="my_own", auto_map={"AutoConfig": "my.Config", "AutoModel": "my.Model"})
    (base / "my.py").write_text(f"open({str(base / 'ran')!r}, 'w')")


def with_code_in_the_processor(base: Path) -> None:
    edit(base, "processor_config.json", processor_class="MyProcessor", auto_map={"AutoProcessor": "my.MyProcessor"})
    (base / "my.py").write_text(f"open({str(base / 'ran')!r}, 'w')")


REFUSED: list[tuple[Callable[[Path], None], str]] = [
    (
        lambda base: edit(base, "config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
        "quantised.*gptq",
    ),
    (lambda base: edit(base, "config.json", quantization_config={"quant_method": "awq", "bits": 4}), "quantised.*awq"),
    (lambda base: edit(base, "config.json", quantization_config={"load_in_4bit": True}), "quantised"),
    (lambda base: edit(base, "config.json", compression_config={"quant_method": "fp8"}), "quantised.*fp8"),
    (lambda base: edit(base, "config.json", text_config={"quantization_config": {"quant_method": "fp8"}}), "quantised"),
    (lambda base: edit_weights(base, lambda t: t.update({EMBEDDING: t[EMBEDDING].to(torch.float8_e4m3fn)})), "F8_E4M3"),
    (lambda base: edit_weights(base, lambda t: t.update({"a.qweight": torch.zeros(2).int()})), "qweight"),
    (lambda base: edit(base, "generation_config.json", num_return_sequences=2), "num_return_sequences"),
    (without_a_weight, "random values"),
    (with_fewer_embeddings, "resize"),
    (with_own_code, "MPA_TRUST_REMOTE_CODE"),
    (with_code_in_the_processor, "MPA_TRUST_REMOTE_CODE"),
]


@pytest.mark.parametrize(("spoil", "words"), REFUSED)
def test_what_cannot_be_trained_is_refused_before_the_first_step(
    tmp_path: Path, small_set: Store, base: Path, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(base)
    config = run_config(tmp_path, base, ONE_STEP)
    with pytest.raises(BadCheckpoint, match=words):
        run_training(config)
    assert not config.progress_file.exists()
    assert not (base / "ran").exists()
    assert [path for path in config.folder.iterdir() if path.name.startswith(".tmp")] == []


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_an_adapter_of_a_tied_weight_is_refused(tmp_path: Path, small_set: Store, base: Path, target: str) -> None:
    train = ONE_STEP.model_copy(update={"method": "lora", "lora": LoraSpec(rank=4, target_modules=[target])})
    with pytest.raises(InvalidInput, match="tied"):
        run_training(run_config(tmp_path, base, train))
