"""Tiny random models of the real class, in seconds: the demo's processor with fresh weights."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    AutoProcessor,
    AutoTokenizer,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from demo.training.architecture import Size, build_model

DEMO_STUDENT = Path(__file__).parent.parent / "demo" / "models" / "student"
TINY = Size(64, 1, 1, 128, 64, 1, 1, 128)
LLAVA_TEMPLATE = (
    "{% for m in messages %}{% for c in m['content'] %}"
    "{{ '<image>' if c['type'] == 'image' else c['text'] }}"
    "{% endfor %}\n{% endfor %}"
)


def build_tiny_idefics3(folder: Path, seed: int = 0, size: Size = TINY) -> Path:
    """Save a random Idefics3 with processor to ``folder``; the same weights for the same seed and size."""
    processor = AutoProcessor.from_pretrained(DEMO_STUDENT)
    model = build_model(size, processor, seed)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def build_tiny_llava(folder: Path, seed: int = 0) -> Path:
    """A random LLaVA (CLIP vision, Llama text) on the demo's tokenizer: another architecture without torchvision."""
    tokenizer = AutoTokenizer.from_pretrained(DEMO_STUDENT)
    image_token = "<image>"
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        projection_dim=32,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        initializer_range=0.2,
    )
    image_id = tokenizer.convert_tokens_to_ids(image_token)
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=text, image_token_index=image_id)
    )
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        image_token=image_token,
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    ).save_pretrained(folder)
    return folder
