"""LoRA adapters, and candidates in plain folders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import nn

from services.trainer.leveler.models import add_lora, save_candidate
from shared.checkpoints import build_card
from shared.checkpoints.adapters import describe_adapter
from shared.contracts import CardAdapter, LoraSpec
from shared.errors import InvalidInput
from shared.vlm.loading import load_model


def test_the_published_card_names_the_adapter_and_what_it_applies_to(tmp_path: Path, tiny_student: Path) -> None:
    model = add_lora(load_model(tiny_student).model, LoraSpec(rank=4, alpha=8), seed=0)
    save_candidate(model, tiny_student, tmp_path / "first")
    assert describe_adapter(tmp_path / "first", "base") == CardAdapter(base="base", rank=4)
    card = build_card(tmp_path / "first", version="job-1", student="student")
    assert "adapter/adapter_model.safetensors" in {file.name for file in card.files}
    model = load_model(tmp_path / "first").model
    save_candidate(model, tmp_path / "first", tmp_path / "second")  # a full training of what was merged
    assert describe_adapter(tmp_path / "second", "job-1") is None and not (tmp_path / "second" / "adapter").exists()


def test_merged_lora_answers_like_the_adapter(tmp_path: Path, tiny_student: Path) -> None:
    loaded = load_model(tiny_student)
    model = add_lora(loaded.model, LoraSpec(rank=4, alpha=8), seed=0)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    ids = torch.randint(10, 200, (2, 12))
    with torch.no_grad():
        adapted, base = model(input_ids=ids).logits, load_model(tiny_student).model(input_ids=ids).logits
    save_candidate(model, tiny_student, tmp_path / "merged")
    saved = PeftModel.from_pretrained(load_model(tiny_student).model, str(tmp_path / "merged" / "adapter"))
    with torch.no_grad():
        assert torch.allclose(saved(input_ids=ids).logits, adapted, atol=1e-6)
        merged = load_model(tmp_path / "merged").model(input_ids=ids).logits
    assert torch.allclose(merged, adapted, atol=1e-4)
    assert not torch.allclose(merged, base, atol=1e-2)


def test_a_student_without_layers_for_lora_is_refused() -> None:
    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.LayerNorm(4), nn.GRU(4, 4)])

    class Student(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vision, self.language_model = nn.Linear(4, 4), Decoder()

    with pytest.raises(InvalidInput, match="no linear layer for LoRA"):
        add_lora(Student(), LoraSpec(), seed=0)


def test_lora_modules_that_do_not_exist_are_refused(tiny_student: Path) -> None:
    with pytest.raises(InvalidInput, match="target_modules"):
        add_lora(load_model(tiny_student).model, LoraSpec(target_modules=["no_such_layer"]), seed=0)
