"""The memory estimate: its formulas against what autograd really keeps, and against each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel, Phi3Config, Phi3Model, SiglipVisionConfig, SiglipVisionModel

from services.trainer.estimate.architecture import Architecture, block_shape, read_architecture
from services.trainer.estimate.memory import Load, Memory, estimate, kept_activations
from shared.contracts import LoraSpec, TrainSpec

ROWS, LENGTH = 2, 196
TEXT = {"vocab_size": 100, "hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 2, "pad_token_id": 0}
BF16 = TrainSpec(precision="bf16", batch_size=4)
SIZE = (1024, 768)


def llama() -> tuple[nn.Module, nn.Module, Any, Callable[[Any], Any]]:
    model = LlamaModel(LlamaConfig(**TEXT, num_attention_heads=8, num_key_value_heads=2))
    return model, model.layers, model.config, _read_text


def phi3() -> tuple[nn.Module, nn.Module, Any, Callable[[Any], Any]]:
    model = Phi3Model(Phi3Config(**TEXT, num_attention_heads=8, num_key_value_heads=8))
    return model, model.layers, model.config, _read_text


def siglip() -> tuple[nn.Module, nn.Module, Any, Callable[[Any], Any]]:
    config = SiglipVisionConfig(
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=2,
        num_attention_heads=8,
        image_size=224,
        patch_size=16,
        vision_use_head=False,
    )
    model = SiglipVisionModel(config)
    blocks = max((m for m in model.modules() if isinstance(m, nn.ModuleList)), key=len)
    return model, blocks, config, lambda tower: tower(pixel_values=torch.randn(ROWS, 3, 224, 224))


def _read_text(model: Any) -> Any:
    mask = torch.ones(ROWS, LENGTH, dtype=torch.long)
    mask[0, -5:] = 0
    return model(inputs_embeds=torch.randn(ROWS, LENGTH, 256, requires_grad=True), attention_mask=mask, use_cache=False)


def really_kept(model: nn.Module, run: Callable[[Any], Any], *, bf16: bool) -> int:
    """Bytes that autograd keeps of a forward pass, without weights and autocast's copies of them."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    shapes = {tuple(p.shape) for p in model.parameters()}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        copy = tensor.dtype == torch.bfloat16 and {tuple(tensor.shape), tuple(tensor.shape)[::-1]} & shapes
        if tensor.untyped_storage().data_ptr() not in weights and not copy:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with (
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
    ):
        run(model)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("build", [llama, phi3, siglip])
def test_activations_are_what_autograd_keeps(build: Callable[[], Any], bf16: bool, attention: Any) -> None:
    torch.set_num_threads(1)
    model, blocks, config, run = build()
    model.train().set_attn_implementation(attention)
    tower = block_shape(blocks, config)
    assert tower.blocks == 2
    estimated = kept_activations(tower, ROWS, LENGTH, 2 if bf16 else 4, Load(attention=attention), rank=0)
    assert really_kept(model, run, bf16=bf16) == pytest.approx(estimated, rel=0.3)


@pytest.fixture(scope="module")
def qwen() -> Architecture:
    return read_architecture("qwen2-vl-2b", SIZE)


def memory(model: Architecture, load: Load | None = None, **changes: Any) -> Memory:
    return estimate(model, BF16.model_copy(update=changes), load or Load(), eval_batch_size=4)


def test_all_trained_weights_take_sixteen_bytes_and_a_copy(qwen: Architecture) -> None:
    full = memory(qwen)
    assert full.weights + full.gradients + full.optimiser == 16 * qwen.parameters
    assert full.copies == 2 * qwen.parameters  # its embeddings are tied to the head
    assert memory(qwen, precision="fp32").copies == 0


def test_frozen_parts_take_their_weights_only(qwen: Architecture) -> None:
    frozen = memory(qwen, freeze_vision=True)
    assert frozen.gradients == 4 * qwen.language
    assert frozen.activations < memory(qwen).activations
    lora = memory(qwen, method="lora", lora=LoraSpec(rank=8))
    assert lora.optimiser == 8 * 8 * qwen.adapted
    assert lora.weights == 2 * qwen.parameters and lora.copies == 0
    on_float32 = memory(qwen, Load(stored_in_bf16=False), method="lora")
    assert on_float32.weights == 4 * qwen.parameters and on_float32.copies > 0


def test_checkpointing_and_smaller_batches_save_activations(qwen: Architecture) -> None:
    plain = memory(qwen)
    assert memory(qwen, batch_size=2).activations == pytest.approx(plain.activations / 2, rel=1e-6)
    assert memory(qwen, Load(checkpointing=True)).activations < plain.activations / 5
    assert memory(qwen, Load(checkpointing=True)).weights == plain.weights


def test_more_pictures_and_answers_take_more(qwen: Architecture) -> None:
    two = replace(qwen, pictures=2)
    assert memory(two).activations > 1.8 * memory(qwen).activations
    assert memory(two).cached_per_image == 2 * memory(qwen).cached_per_image
    assert memory(qwen, Load(answer_tokens=24)).logits == 2 * memory(qwen, Load(answer_tokens=12)).logits
