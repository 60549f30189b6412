"""A tiny random model of each family's real class, in a folder as a hub has it: weights, configuration, processor.

The tokenizer is the demo's with the family's special tokens; templates are the families' own, cut to what one user
turn needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from transformers import AutoTokenizer

from tests.tiny_models import DEMO_STUDENT, LLAVA_TEMPLATE

SIDE = 32
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{{ 'IMAGE' if c['type'] == 'image' else c['text'] }}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
IDEFICS = (
    "<|im_start|>{% for m in messages %}{{ m['role'] | capitalize }}"
    "{{ ':' if m['content'][0]['type'] == 'image' else ': ' }}{% for c in m['content'] %}"
    "{{ '<image>' if c['type'] == 'image' else c['text'] }}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
INTERNVL_TOKENS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
TILES = [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]


def text_config(tokenizer: Any, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 1024,
        "initializer_range": 0.2,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **more,
    }


def vision_config(**more: Any) -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": 8,
        **more,
    }


def idefics3(folder: Path) -> Path:
    tokenizer = _tokenizer("<end_of_utterance>", ["<|im_start|>", *TILES])
    images = hf.Idefics3ImageProcessorPil(size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE})
    config = hf.Idefics3Config(**_idefics(tokenizer))
    _save(folder, hf.Idefics3ForConditionalGeneration(config), tokenizer)
    return _processor(folder, "Idefics3", tokenizer, images, IDEFICS, image_seq_len=4)


def smolvlm(folder: Path) -> Path:
    tokenizer = _tokenizer("<end_of_utterance>", ["<|im_start|>", "<video>", *TILES])
    images = hf.SmolVLMImageProcessorPil(size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE})
    config = hf.SmolVLMConfig(**_idefics(tokenizer))
    _save(folder, hf.SmolVLMForConditionalGeneration(config), tokenizer)
    return _processor(folder, "SmolVLM", tokenizer, images, IDEFICS, image_seq_len=4)


def qwen2_vl(folder: Path) -> Path:
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 4}
    return _qwen(folder, "Qwen2VL", hf.Qwen2VLConfig, hf.Qwen2VLForConditionalGeneration, vision, True)


def qwen2_5_vl(folder: Path) -> Path:
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "out_hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "patch_size": 4,
        "window_size": 16,
        "fullatt_block_indexes": [1],
    }
    return _qwen(folder, "Qwen2_5_VL", hf.Qwen2_5_VLConfig, hf.Qwen2_5_VLForConditionalGeneration, vision, False)


def qwen3_vl(folder: Path) -> Path:
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "out_hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "patch_size": 4,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0],
    }
    return _qwen(folder, "Qwen3VL", hf.Qwen3VLConfig, hf.Qwen3VLForConditionalGeneration, vision, True)


def internvl(folder: Path) -> Path:
    return _internvl(folder, {"model_type": "qwen2"})


def internvl_phi3(folder: Path) -> Path:
    """As InternVL2-4B: a language model whose projections are fused."""
    return _internvl(folder, {"model_type": "phi3"})


def llava(folder: Path) -> Path:
    tokenizer = _tokenizer("<end_of_utterance>", [])
    config = hf.LlavaConfig(
        vision_config=vision_config(model_type="clip_vision_model", num_hidden_layers=3, projection_dim=32),
        text_config=text_config(tokenizer, model_type="llama"),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
    )
    _save(folder, hf.LlavaForConditionalGeneration(config), tokenizer)
    images = hf.CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    more = {"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    return _processor(folder, "Llava", tokenizer, images, LLAVA_TEMPLATE, **more)


def llava_onevision(folder: Path) -> Path:
    tokenizer = _tokenizer("<|im_end|>", ["<|im_start|>", "<video>"])
    resolutions = [[SIDE * rows, SIDE * columns] for rows in (1, 2) for columns in (1, 2)]
    config = hf.LlavaOnevisionConfig(
        vision_config=vision_config(model_type="siglip_vision_model", vision_use_head=False),
        text_config=text_config(tokenizer, model_type="qwen2"),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=resolutions,
    )
    _save(folder, hf.LlavaOnevisionForConditionalGeneration(config), tokenizer)
    images = hf.LlavaOnevisionImageProcessorPil(size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=resolutions)
    template = CHATML.replace("IMAGE", "<image>\n")
    more = {"num_image_tokens": 16, "vision_feature_select_strategy": "full"}
    return _processor(folder, "LlavaOnevision", tokenizer, images, template, **more)


FAMILIES: dict[str, Callable[[Path], Path]] = {
    "idefics3": idefics3,
    "smolvlm": smolvlm,
    "qwen2_vl": qwen2_vl,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "internvl": internvl,
    "internvl_phi3": internvl_phi3,
    "llava": llava,
    "llava_onevision": llava_onevision,
}


def _idefics(tokenizer: Any) -> dict[str, Any]:
    return {
        "vision_config": vision_config(),
        "text_config": text_config(tokenizer, model_type="llama"),
        "scale_factor": 2,
        "image_token_id": tokenizer.convert_tokens_to_ids("<image>"),
        "pad_token_id": tokenizer.pad_token_id,
    }


def _qwen(folder: Path, name: str, config: Any, model: Any, vision: dict[str, Any], tied: bool) -> Path:
    marks = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer = _tokenizer("<|im_end|>", ["<|im_start|>", *marks])
    ids = [tokenizer.convert_tokens_to_ids(mark) for mark in marks]
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    made = model(
        config(
            vision_config=vision,
            text_config=text_config(
                tokenizer, rope_parameters=rope, tie_word_embeddings=tied, **({"head_dim": 16} if "3" in name else {})
            ),
            vision_start_token_id=ids[0],
            vision_end_token_id=ids[1],
            image_token_id=ids[2],
            video_token_id=ids[3],
            tie_word_embeddings=tied,
        )
    )
    _save(folder, made, tokenizer)
    images = hf.Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, size={"shortest_edge": 16 * 16, "longest_edge": 48 * 48}
    )
    return _processor(folder, name, tokenizer, images, CHATML.replace("IMAGE", QWEN_IMAGE))


def _internvl(folder: Path, text: dict[str, Any]) -> Path:
    tokenizer = _tokenizer("<|im_end|>", ["<|im_start|>", *INTERNVL_TOKENS.values()])
    config = hf.InternVLConfig(
        vision_config=vision_config(),
        text_config=text_config(tokenizer, **text),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    _save(folder, hf.InternVLForConditionalGeneration(config), tokenizer)
    images = hf.GotOcr2ImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, crop_to_patches=True, min_patches=1, max_patches=4
    )
    template = CHATML.replace("IMAGE", "<IMG_CONTEXT>\n")
    _processor(folder, "InternVL", tokenizer, images, template, image_seq_length=4)
    written = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(written | {"extra_special_tokens": INTERNVL_TOKENS}))
    return folder


def _tokenizer(end: str, marks: Sequence[str]) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(DEMO_STUDENT)
    tokenizer.add_special_tokens({"additional_special_tokens": list(marks), "eos_token": end})
    return tokenizer


def _save(folder: Path, model: Any, tokenizer: Any) -> None:
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)


def _processor(folder: Path, name: str, tokenizer: Any, images: Any, template: str, **more: Any) -> Path:
    """The files of a processor as a hub has them; its own class needs torchvision, which is not installed."""
    tokenizer.save_pretrained(folder)
    images.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(template)
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": f"{name}Processor", **more}))
    return folder


def seeded(family: str, folder: Path, seed: int = 0) -> Path:
    """The family's tiny model, with the same weights for the same seed."""
    torch.manual_seed(seed)
    return FAMILIES[family](folder)
