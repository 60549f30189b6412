"""The two Idefics3 models: sizes and seeded initial weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    Idefics3VisionConfig,
    LlamaConfig,
)

from demo.training.processor import IMAGE
from demo.world.vocabulary import PATCH, SIDE

NORM_EPSILON = 1e-6
_ARCHITECTURE: Any = Idefics3ForConditionalGeneration  # its constructor is untyped


@dataclass(frozen=True)
class Size:
    """Widths, depths and heads; each width is a multiple of its heads times 64 (vLLM's CPU attention requires that)."""

    vision_width: int
    vision_layers: int
    vision_heads: int
    vision_mlp: int
    text_width: int
    text_layers: int
    text_heads: int
    text_mlp: int


TEACHER = Size(192, 6, 3, 768, 192, 4, 3, 512)
STUDENT = Size(128, 6, 2, 512, 128, 4, 2, 384)


def build_model(size: Size, processor: Idefics3Processor, seed: int) -> Any:
    """An `Idefics3ForConditionalGeneration` of ``size`` with fresh float32 weights; the same for the same seed."""
    tokenizer = processor.tokenizer
    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    vision = Idefics3VisionConfig(
        hidden_size=size.vision_width,
        intermediate_size=size.vision_mlp,
        num_hidden_layers=size.vision_layers,
        num_attention_heads=size.vision_heads,
        image_size=SIDE,
        patch_size=PATCH,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.text_width,
        intermediate_size=size.text_mlp,
        num_hidden_layers=size.text_layers,
        num_attention_heads=size.text_heads,
        num_key_value_heads=size.text_heads,
        max_position_embeddings=1024,
        rms_norm_eps=NORM_EPSILON,
        initializer_range=0.05,
        tie_word_embeddings=True,
        **special,
    )
    config = Idefics3Config(
        vision_config=vision,
        text_config=text,
        scale_factor=1,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
    )
    config.eos_token_id = tokenizer.eos_token_id
    torch.manual_seed(seed)
    model = _ARCHITECTURE(config)
    torch.nn.init.normal_(model.model.vision_model.embeddings.position_embedding.weight, std=0.1)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model
