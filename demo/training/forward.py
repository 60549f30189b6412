"""A fast forward over the parameters of an Idefics3 model: the same maths as transformers', for packed rows on a CPU.

Attention with an explicit softmax in bfloat16 was 3-4 times faster in backward than SDPA at these lengths; the
image's place is fixed, so that nothing needs to be searched for or scattered. A test compares it with transformers.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from transformers import Idefics3ForConditionalGeneration

from demo.training.architecture import NORM_EPSILON
from demo.training.packing import HEAD, IGNORE, Packed

ROPE_BASE = 10000.0


def vision(model: Idefics3ForConditionalGeneration, pixels: Tensor) -> Tensor:
    """Patch features [B, 64, vision width] of normalised pixels [B, 3, 96, 96]."""
    tower = model.model.vision_model
    weight = tower.embeddings.patch_embedding.weight
    patch = weight.shape[-1]
    batch, channels, side, _ = pixels.shape
    grid = side // patch
    patches = pixels.view(batch, channels, grid, patch, grid, patch).permute(0, 2, 4, 1, 3, 5)
    hidden = functional.linear(
        patches.reshape(batch, grid * grid, -1), weight.flatten(1), tower.embeddings.patch_embedding.bias
    )
    hidden = hidden + tower.embeddings.position_embedding.weight
    heads = _config(model).vision_config.num_attention_heads
    for layer in tower.encoder.layers:
        hidden = _vision_layer(hidden, layer, heads)
    return _layer_norm(hidden, tower.post_layernorm)


def language(model: Idefics3ForConditionalGeneration, features: Tensor, packed: Packed) -> Tensor:
    """Final hidden states [B, N, text width] of packed rows whose images have ``features``."""
    text, config = model.model.text_model, _config(model).text_config
    image = functional.linear(features, model.model.connector.modality_projection.proj.weight)
    tokens = functional.embedding(packed.ids, text.embed_tokens.weight)
    hidden = torch.cat([tokens[:, :HEAD], image, tokens[:, HEAD:]], 1)
    width = config.hidden_size // config.num_attention_heads
    frequencies = 1.0 / (ROPE_BASE ** (torch.arange(0, width, 2).float() / width))
    angles = packed.positions[:, None, :, None].float() * frequencies
    cos, sin = angles.cos().to(hidden.dtype), angles.sin().to(hidden.dtype)
    for layer in text.layers:
        hidden = _text_layer(hidden, layer, config.num_attention_heads, cos, sin, packed.bias)
    return _rms_norm(hidden, text.norm.weight)


def logits(model: Idefics3ForConditionalGeneration, hidden: Tensor) -> Tensor:
    """Token scores of hidden states, by the tied embedding."""
    return functional.linear(hidden, model.model.text_model.embed_tokens.weight)


def answer_loss(model: Idefics3ForConditionalGeneration, pixels: Tensor, packed: Packed) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of all answer tokens, and the patch features (for the dense loss)."""
    features = vision(model, pixels)
    hidden = language(model, features, packed)
    targets = packed.targets[:, 1:]
    chosen = targets != IGNORE
    return functional.cross_entropy(logits(model, hidden[:, :-1][chosen]).float(), targets[chosen]), features


def _config(model: Idefics3ForConditionalGeneration) -> Any:
    return model.config


def _attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    scores = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(-1, -2))
    return torch.matmul((scores if bias is None else scores + bias).softmax(-1), value)


def _layer_norm(hidden: Tensor, norm: nn.LayerNorm) -> Tensor:
    return functional.layer_norm(hidden, (hidden.shape[-1],), norm.weight, norm.bias, norm.eps)


def _rms_norm(hidden: Tensor, weight: Tensor) -> Tensor:
    return functional.rms_norm(hidden, (hidden.shape[-1],), weight, NORM_EPSILON)


def _vision_layer(hidden: Tensor, layer: Any, heads: int) -> Tensor:
    batch, length, width = hidden.shape
    attention, mlp = layer.self_attn, layer.mlp
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    weight, bias = torch.cat([part.weight for part in projections]), torch.cat([part.bias for part in projections])
    mixed = functional.linear(_layer_norm(hidden, layer.layer_norm1), weight, bias)
    query, key, value = mixed.view(batch, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4).unbind(0)
    context = _attention(query, key, value).transpose(1, 2).reshape(batch, length, width)
    hidden = hidden + functional.linear(context, attention.out_proj.weight, attention.out_proj.bias)
    inner = functional.linear(_layer_norm(hidden, layer.layer_norm2), mlp.fc1.weight, mlp.fc1.bias)
    return hidden + functional.linear(functional.gelu(inner, approximate="tanh"), mlp.fc2.weight, mlp.fc2.bias)


def _rotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = states.chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


def _text_layer(hidden: Tensor, layer: Any, heads: int, cos: Tensor, sin: Tensor, bias: Tensor) -> Tensor:
    batch, length, width = hidden.shape
    attention, mlp = layer.self_attn, layer.mlp
    weight = torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])
    mixed = functional.linear(_rms_norm(hidden, layer.input_layernorm.weight), weight)
    mixed = mixed.view(batch, length, 3 * heads, width // heads).transpose(1, 2)
    rotated = _rotate(mixed[:, : 2 * heads], cos, sin)
    context = _attention(rotated[:, :heads], rotated[:, heads:], mixed[:, 2 * heads :], bias)
    hidden = hidden + functional.linear(context.transpose(1, 2).reshape(batch, length, width), attention.o_proj.weight)
    gates = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])
    gate, up = functional.linear(_rms_norm(hidden, layer.post_attention_layernorm.weight), gates).chunk(2, -1)
    return hidden + functional.linear(functional.silu(gate) * up, mlp.down_proj.weight)
