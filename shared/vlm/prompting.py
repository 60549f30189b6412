"""From chat messages and images to what a model reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from PIL import Image

from shared.contracts import ChatMessage, ImagePart
from shared.errors import InvalidInput
from shared.escapes import Escapes, write_messages
from shared.literal import escapes_of
from shared.vlm.loading import LoadedModel


class WithProcessor(Protocol):
    """A loaded model, or the part of one that prepares prompts."""

    @property
    def processor(self) -> Any:
        """A processor of Hugging Face."""


@dataclass(frozen=True)
class Prompt:
    """A rendered chat ending where the answer begins, its images in order of appearance, and the turns it came from.

    ``text`` is what the processor reads: the texts of the turns are written with escapes in it (shared/escapes.py).
    """

    text: str
    images: tuple[Image.Image, ...]
    turns: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Encoded:
    """Processor output of one prompt (batch of one, on CPU); ``length`` in tokens, ``text`` and ``turns`` as in Prompt.

    ``image_key`` identifies its images for image_features.py; empty: they need not be recognised.
    """

    features: dict[str, torch.Tensor]
    length: int
    text: str = ""
    turns: tuple[dict[str, Any], ...] = ()
    image_key: str = ""


def render(loaded: WithProcessor, messages: Sequence[ChatMessage], images: Sequence[Image.Image]) -> Prompt:
    """Apply the model's chat template. Raises InvalidInput if it cannot express the messages."""
    return render_with(loaded.processor, messages, images)


def render_with(processor: Any, messages: Sequence[ChatMessage], images: Sequence[Image.Image]) -> Prompt:
    """Like ``render``, for a processor without a model."""
    turns = [{"role": _role(message), "content": _content(message)} for message in messages]
    return Prompt(_rendered(processor, turns, add_generation_prompt=True), tuple(images), tuple(turns))


def question_prompt(loaded: LoadedModel, image: Image.Image, text: str) -> Prompt:
    """One user turn with the image first, then the text."""
    turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}
    return Prompt(_rendered(loaded.processor, [turn], add_generation_prompt=True), (image,), (turn,))


def encode(loaded: WithProcessor, prompt: Prompt) -> Encoded:
    """Tokenise and preprocess one prompt: CPU work that needs no model, so it can run beside it."""
    images = list(prompt.images)
    output = loaded.processor(
        text=[prompt.text], images=[images] if images else None, return_tensors="pt", add_special_tokens=False
    )
    features = {name: value for name, value in output.items() if isinstance(value, torch.Tensor)}
    return Encoded(features, int(features["input_ids"].shape[1]), prompt.text, prompt.turns)


def answer_ids(loaded: LoadedModel, prompt: Prompt | Encoded, answer: str) -> list[int]:
    """The ids that should follow ``prompt``: see `completion_ids`."""
    return completion_ids(loaded.processor, loaded.eos_ids, prompt, answer)


def completion_ids(processor: Any, eos_ids: Sequence[int], prompt: Prompt | Encoded, answer: str) -> list[int]:
    """The answer as the chat template writes it (some begin with a space), and the token that ends it.

    An answer without tokens gives the end token alone.
    """
    completion = escapes_of(processor.tokenizer).write(answer)
    if prompt.turns:
        turns = [*prompt.turns, {"role": "assistant", "content": [{"type": "text", "text": answer}]}]
        whole = _rendered(processor, turns)
        completion = whole[len(prompt.text) :] if whole.startswith(prompt.text) else completion
    ids = [int(token) for token in processor.tokenizer(completion, add_special_tokens=False)["input_ids"]]
    end = next((place for place, token in enumerate(ids) if token in eos_ids), None)
    return [*ids, eos_ids[0]] if end is None else ids[: end + 1]


def collate(loaded: LoadedModel, batch: Sequence[Encoded]) -> dict[str, torch.Tensor]:
    """One left-padded batch on the model's device.

    Token-shaped tensors [1, T] are padded on the left to the longest T; image tensors are concatenated along the
    batch, which all supported families expect, and padded with zeros if the number of images differs (Idefics3:
    [1, images, 3, H, W]).
    """
    longest = max(item.length for item in batch)
    pad_id = int(loaded.tokenizer.pad_token_id)
    merged: dict[str, torch.Tensor] = {}
    for name in dict.fromkeys(name for item in batch for name in item.features):
        owners = [item for item in batch if name in item.features]
        parts = [item.features[name] for item in owners]
        if all(part.shape == item.features["input_ids"].shape for part, item in zip(parts, owners, strict=True)):
            fill = pad_id if name == "input_ids" else 0
            parts = [_pad_left(part, longest, fill) for part in parts]
        elif name in ("pixel_values", "pixel_attention_mask") and _has_image_axis(name, parts[0]):
            parts = _pad_images(parts)
        merged[name] = torch.cat(parts).to(loaded.device)
    if "pixel_values" in merged:
        merged["pixel_values"] = merged["pixel_values"].to(loaded.model.dtype)
    return merged


def _has_image_axis(name: str, tensor: torch.Tensor) -> bool:
    return tensor.dim() == (5 if name == "pixel_values" else 4)


def _pad_left(part: torch.Tensor, longest: int, fill: int) -> torch.Tensor:
    return torch.nn.functional.pad(part, (longest - part.shape[1], 0), value=fill)


def _pad_images(parts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Pad [1, N, …, H, W] tensors with zeros to the largest N, H and W."""
    sizes = [max(p.shape[axis] for p in parts) for axis in range(parts[0].dim())]
    padded = []
    for part in parts:
        widths: list[int] = []
        for axis in reversed(range(1, part.dim())):
            widths += [0, sizes[axis] - part.shape[axis]]
        padded.append(torch.nn.functional.pad(part, widths))
    return padded


def _rendered(processor: Any, turns: Sequence[dict[str, Any]], **options: Any) -> str:
    """The turns as the model's chat template writes them, their texts with escapes. Raises InvalidInput."""
    escapes: Escapes = escapes_of(processor.tokenizer)
    written = write_messages(turns, escapes.write)
    try:
        return str(processor.apply_chat_template(written, tokenize=False, **options))
    except Exception as error:  # templates raise jinja errors of their own for turns they do not allow
        raise InvalidInput(
            f"The model's chat template refuses these messages: {escapes.restore(str(error))}."
        ) from error


def _role(message: ChatMessage) -> str:
    return "system" if message.role == "developer" else message.role


def _content(message: ChatMessage) -> list[dict[str, Any]]:
    if isinstance(message.content, str):
        return [{"type": "text", "text": message.content}]
    return [
        {"type": "image"} if isinstance(part, ImagePart) else {"type": "text", "text": part.text}
        for part in message.content
    ]
